"""A kiosk: the label, or "unknown": python kiosk.py ARTIFACT FOLDER-TO-WATCH | camera:0 | VIDEO [LEAST-SCORE].

Scores are probabilities where a temperature was fitted (docs/confidence.md), so that 0.6 means right 6 times of 10.
"""

import sys
from pathlib import Path

from tiffin import load
from tiffin.runtime import Classifier
from tiffin.runtime.sources import Options, open_words  # pip install "tiffin[watch,video]"

least = float(sys.argv[3]) if sys.argv[3:] else 0.6
seen = open_words([sys.argv[2]], Options(watch=Path(sys.argv[2]).is_dir()))
with load(sys.argv[1]) as session:
    for answer in Classifier(session).stream(seen.items, top=1):
        known = answer.guesses and answer.guesses[0].score >= least
        print(answer.error or (answer.guesses[0].label if known else "unknown"), flush=True)
