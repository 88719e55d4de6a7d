"""Where photos come from: words of a command line → items for `Classifier.stream`.

    photo.jpg  'shelf/**/*.jpg'  folder      files.py     found before the first is read, so that they can be counted
    -                                        listed.py    paths from stdin
    clip.mp4   http://… (with an end)        video.py     each frame in turn; needs PyAV
    camera:0   /dev/video0   rtsp://…        live.py      the newest frame, older ones are dropped; needs PyAV
    http://… (an MJPEG camera)               live.py      the same
    --watch folder                           watched.py   each photo once it is written; needs watchfiles

What cannot be read is an item that says why; it never ends the items after it.
"""

from __future__ import annotations

from .words import Options, Source, open_words

__all__ = ["Options", "Source", "open_words"]
