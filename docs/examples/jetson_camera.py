"""What a USB camera on a Jetson sees, as labels: python jetson_camera.py ENGINE [VIDEO | rtsp://… | camera:1].

ENGINE is what `tiffin compile --backend tensorrt` built there; any other artifact runs on its own engine.
"""

import sys

from tiffin import load
from tiffin.runtime import Classifier
from tiffin.runtime.sources import open_words  # pip install "tiffin[video]"

camera = open_words([sys.argv[2] if sys.argv[2:] else "camera:0"])
with load(sys.argv[1]) as session:
    for answer in Classifier(session).stream(camera.items, top=1):
        print(answer.error or f"{answer.guesses[0].score:4.0%} {answer.guesses[0].label}", flush=True)
