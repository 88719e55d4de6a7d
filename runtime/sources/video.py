"""Frames of a video, by PyAV (FFmpeg): pixels are handed on as the decoder made them where `Frame` knows the layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BadInput
from ..frames import Frame
from ..items import Item

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_LAYOUTS = {"rgb24": "rgb", "bgr24": "bgr", "gray": "gray", "nv12": "nv12", "yuyv422": "yuyv"}
_LIVE = frozenset({"rtmp", "rtp", "rtsp", "rtsps", "srt", "udp"})
_SILENCE_S = 10.0  # a stream that sends nothing for so long has gone
_SLACK_S, _SLACK_FRAMES = 0.5, 3  # a container may state a little more than it holds
_USUAL_FPS = 25.0
_ROUNDED_S = 1e-3  # many containers keep times in milliseconds
_FULL_RANGE, _BT709 = 2, 1  # AVCOL_RANGE_JPEG, AVCOL_SPC_BT709


@dataclass(frozen=True)
class Address:
    """What FFmpeg opens.

    Args:
        url: path or URL.
        form: input format where FFmpeg cannot tell: "v4l2", "lavfi".
        options: of the protocol.
        timeout_s: seconds without data; None waits for ever.
    """

    url: str
    form: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    timeout_s: float | None = None


@dataclass(frozen=True)
class Sampling:
    """Which frames are taken: each `every`-th, or at most `fps` a second of the video's own time."""

    every: int = 1
    fps: float | None = None

    def taken(self, frames: Iterator[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
        """Numbers from 0, and frames. A frame without a time is taken."""
        due_s = float("-inf")
        for number, frame in enumerate(frames):
            if self.fps is None:
                if number % self.every == 0:
                    yield number, frame
            elif frame.time is None or frame.time >= due_s - _ROUNDED_S:
                yield number, frame
                due_s = _next_due(due_s, frame.time, 1 / self.fps)


def _next_due(due_s: float, time_s: float | None, step_s: float) -> float:
    """On a grid from the first frame on, so that 10 of 25 frames a second are 10, not 8."""
    if time_s is None:
        return due_s
    return time_s + step_s if due_s == float("-inf") or time_s >= due_s + step_s else due_s + step_s


def require_library() -> None:
    """Before anything is run.

    Raises:
        BadInput: PyAV is not installed.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise BadInput("videos and cameras need PyAV", "the extra `video`", "pip install 'tiffin[video]'") from error


def is_live(word: str) -> bool:
    """Whether a URL's protocol is one of cameras."""
    return word.partition(":")[0].lower() in _LIVE


def is_http(word: str) -> bool:
    """Whether only the answer of a server can tell a file from a camera."""
    return word.partition(":")[0].lower() in ("http", "https")


def never_ends(container: Any) -> bool:
    """Whether neither an end nor a length is stated: an MJPEG camera, a broadcast."""
    return container.duration is None and (container.size <= 0 or container.format.name == "hls")


def address(word: str) -> Address:
    """How a URL is opened; `lavfi:GRAPH` is a picture that FFmpeg draws."""
    scheme, _, rest = word.partition(":")
    if scheme.lower() == "lavfi":
        return Address(rest, "lavfi")
    options = (("rtsp_transport", "tcp"),) if scheme.lower() in ("rtsp", "rtsps") else ()  # UDP loses frames silently
    return Address(word, options=options, timeout_s=_SILENCE_S)


def items(name: str, where: Address, sampling: Sampling, container: Any = None) -> Iterator[Item]:
    """Each frame as `NAME#NUMBER`; what cannot be decoded, or is cut off, is one item that says so, and the last.

    Args:
        container: what `opened` gave, where it is open already.
    """
    import av

    try:
        with container or opened(where) as held:
            heard = _Heard(held)
            for number, frame in sampling.taken(heard.frames()):
                yield Item(f"{name}#{number}", frame_of(frame))
            heard.require_whole()
    except (av.FFmpegError, OSError, ValueError, IndexError, RuntimeError) as error:
        yield Item(name, unreadable(name, where, error))


class _Heard:
    """Counts what is decoded: FFmpeg ends a file that was cut off as one that is whole, without a word."""

    def __init__(self, container: Any) -> None:
        self._container, self._count, self._end_s = container, 0, 0.0

    def frames(self) -> Iterator[VideoFrame]:
        """All of them."""
        for frame in self._container.decode(video=0):
            self._count += 1
            if frame.time is not None:
                self._end_s = max(self._end_s, frame.time + float((frame.duration or 0) * (frame.time_base or 0)))
            yield frame

    def require_whole(self) -> None:
        """Raises ValueError if no frame came, or the container itself states more than came."""
        if not self._count:
            raise ValueError("it holds no frame")
        stream = self._container.streams.video[0]
        rate = float(stream.average_rate or _USUAL_FPS)
        if stream.frames:
            lacking_s = (stream.frames - self._count) / rate
        else:
            lacking_s = _stated_end_s(stream.metadata.get("DURATION", "")) - self._end_s
        if lacking_s > max(_SLACK_S, _SLACK_FRAMES / rate):
            raise ValueError(f"cut off: {lacking_s:.1f} s are lacking of what it states")


def _stated_end_s(duration: str) -> float:
    """Matroska's `00:00:03.000000000` in seconds; 0 where there is none, or another."""
    hours, minutes, seconds = (duration.split(":") + ["", ""])[:3]
    try:
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0


def unreadable(name: str, where: Address, error: Exception) -> BadInput:
    """What FFmpeg said, as our error."""
    reason = "no video in it" if isinstance(error, IndexError) else getattr(error, "strerror", None) or str(error)
    expected = "a camera that is plugged in and free" if where.form == "v4l2" else "a video that FFmpeg reads"
    return BadInput(f"{name}: {reason}", expected)


def opened(where: Address) -> Any:
    """The container, to be used with `with`.

    Raises:
        av.FFmpegError: FFmpeg cannot open it.
    """
    import av

    container = av.open(where.url, format=where.form, options=dict(where.options), timeout=where.timeout_s)
    if container.streams.video:
        container.streams.video[0].thread_type = "AUTO"
    return container


def frame_of(frame: VideoFrame) -> Frame:
    """A decoded frame, upright.

    NV12 and YUYV are handed on as they are where they are BT.601 in limited range, which is `Frame`'s rule; others,
    and what has no layout there, are converted by FFmpeg.
    """
    layout = _LAYOUTS.get(frame.format.name)
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    other_colours = frame.color_range == _FULL_RANGE or frame.colorspace == _BT709
    if layout is None or (
        layout in ("nv12", "yuyv") and (turns or other_colours or frame.width % 2 or frame.height % 2)
    ):
        return Frame(np.rot90(frame.to_ndarray(format="rgb24"), turns), "rgb")
    pixels = frame.to_ndarray()
    return Frame(np.rot90(pixels, turns) if turns else pixels, layout)
