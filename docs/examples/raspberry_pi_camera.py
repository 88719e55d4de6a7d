"""What a Raspberry Pi's camera sees, as labels: python raspberry_pi_camera.py ARTIFACT [VIDEO, in its place]."""

import sys
from collections.abc import Iterator

from tiffin import load
from tiffin.runtime import Classifier
from tiffin.runtime.frames import Frame


def camera() -> Iterator[Frame]:
    from picamera2 import Picamera2  # apt install python3-picamera2

    with Picamera2() as lens:
        lens.configure(lens.create_video_configuration({"format": "RGB888", "size": (640, 480)}))
        lens.start()
        while True:
            yield Frame(lens.capture_array(), "bgr")  # what Picamera2 calls RGB888 lies in memory as B, G, R


def video(path: str) -> Iterator[Frame]:
    import av  # pip install "tiffin[video]"

    for picture in av.open(path).decode(video=0):
        yield Frame(picture.to_ndarray(format="rgb24"), "rgb")


with load(sys.argv[1]) as session:
    classifier = Classifier(session)
    for frame in video(sys.argv[2]) if sys.argv[2:] else camera():
        best = classifier.predict(frame, top=1)[0]
        print(f"{best.score:4.0%} {best.label}", flush=True)
