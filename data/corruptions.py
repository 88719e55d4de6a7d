"""What spoils a photo on its way through a camera, at three strengths each, from a seed of the photo's own.

A photo is corrupted as it was decoded, before it is resized for a model: light is blurred, then caught, then coded, and
what shrinks the photo comes last. Lengths are shares of the shorter side, and noise is that of an area of the scene, so
that a strength means the same for a photo of 300 pixels and one of 12 million; JPEG alone works on pixels. A photo
whose shorter side has 1,024 pixels or more is first reduced by a whole factor to 512 or more.

Light adds up before its coding: blur, noise and exposure are computed in linear light (IEC 61966-2-1), as whole numbers
of 16 bits, and give the same bytes on every platform. So does occlusion. Rotation is Pillow's in floating point, which
may round a value by one level elsewhere on another kind of CPU; JPEG is the same for the same libjpeg-turbo.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from PIL import Image

from ..errors import BadInput
from ..records.corruption import Corruption

VERSION = 1  # raised when any result changes: arrays in a cache are named by it
CLEAN = Corruption("none", 0)

_FULL = 65535  # white, in linear light
_NOISE_SIDE = 256  # of the photo for whose pixels the noise is given
_READ_ELECTRONS = 1.5  # a pixel; a good sensor's read noise
_LARGE = 1024


class Chance:
    """Draws of one photo and one kind of corruption: the same at each strength and in any order of photos."""

    def __init__(self, digest: str, name: str) -> None:
        self._seed = f"{digest}:{name}"
        # Python promises that random() of a string seed stays the same.
        self.uniform = random.Random(self._seed).random

    def normal(self, count: int) -> np.ndarray:
        """Standard normal draws, float64, of 65,536 quantiles: numpy promises PCG64's bits, but not its normals."""
        seed = int.from_bytes(hashlib.sha256(self._seed.encode()).digest()[:16], "big")
        bits = np.random.PCG64(seed).random_raw((count + 3) // 4).astype("<u8").view("<u2")
        return _quantiles()[bits[:count]]


@functools.cache
def _quantiles() -> np.ndarray:
    """Of the normal distribution, rounded so that no platform's logarithm shows."""
    exact = [NormalDist().inv_cdf((place + 0.5) / 65536) for place in range(65536)]
    return np.round(np.array(exact) * 65536) / 65536


@functools.cache
def _decoded() -> np.ndarray:
    """sRGB level → linear light, uint16 `(256,)`."""
    level = np.arange(256) / 255
    light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return np.round(light * _FULL).astype(np.uint16)


@functools.cache
def _coded() -> np.ndarray:
    """Linear light → sRGB level, uint8 `(65536,)`."""
    light = np.arange(_FULL + 1) / _FULL
    level = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(level * 255).astype(np.uint8)


def _light(image: Image.Image) -> np.ndarray:
    return _decoded()[np.asarray(image)]


def _photo(light: np.ndarray) -> Image.Image:
    return Image.fromarray(_coded()[light])


def _defocus(image: Image.Image, share: float, chance: Chance) -> Image.Image:
    """Each point of light becomes a disc: sums over rows of the disc, each the difference of two running sums."""
    radius = share * min(image.size)
    reach, (width, height) = math.floor(radius), image.size
    padded = np.pad(_light(image), ((reach, reach), (reach + 1, reach), (0, 0)), "symmetric")
    running = np.cumsum(padded, axis=1, dtype=np.uint32)  # may wrap: the differences do not
    total, count = np.zeros((height, width, 3), np.uint32), 0
    for row in range(-reach, reach + 1):
        half = math.isqrt(math.floor(radius * radius - row * row))
        band = running[reach + row : reach + row + height]
        total += band[:, reach + half + 1 : reach + half + 1 + width] - band[:, reach - half : reach - half + width]
        count += 2 * half + 1
    return _photo((total + count // 2) // count)


def _motion(image: Image.Image, share: float, chance: Chance) -> Image.Image:
    """Each point becomes a line in a drawn direction: a hand that moves, or a belt."""
    length, angle = share * min(image.size), math.pi * chance.uniform()
    reach, (width, height) = math.ceil(length / 2), image.size
    padded = np.pad(_light(image), ((reach, reach), (reach, reach), (0, 0)), "symmetric")
    steps = np.arange(math.floor(length) + 1) - math.floor(length) / 2
    total = np.zeros((height, width, 3), np.uint32)
    for step in steps:
        x, y = reach + round(step * math.cos(angle)), reach + round(step * math.sin(angle))
        total += padded[y : y + height, x : x + width]
    return _photo((total + len(steps) // 2) // len(steps))


def _noise(image: Image.Image, electrons: float, chance: Chance) -> Image.Image:
    """Shot noise of so many electrons at white and read noise, both as of a pixel of a photo of 256.

    The same light on more pixels is less light a pixel: noise grows with the side, and the resize averages it out
    again. No colour filter is simulated: channels are independent.
    """
    light = _light(image)
    white = np.arange(_FULL + 1) / _FULL
    deviation = np.sqrt(white / electrons + (_READ_ELECTRONS / electrons) ** 2) * _FULL * min(image.size) / _NOISE_SIDE
    noisy = light + np.rint(deviation[light] * chance.normal(light.size).reshape(light.shape))
    return _photo(np.clip(noisy, 0, _FULL).astype(np.uint16))


def _under(image: Image.Image, factor: float, chance: Chance) -> Image.Image:
    return _photo(_light(image) // int(factor))


def _over(image: Image.Image, factor: float, chance: Chance) -> Image.Image:
    return _photo(np.minimum(_light(image).astype(np.uint32) * int(factor), _FULL))


def _jpeg(image: Image.Image, quality: float, chance: Chance) -> Image.Image:
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=int(quality), subsampling="4:2:0")
    with Image.open(packed) as opened:
        return opened.convert("RGB")


def _rotation(image: Image.Image, degrees: float, chance: Chance) -> Image.Image:
    """By so much to a drawn side about the centre; corners show the photo mirrored, as if the scene went on."""
    angle = degrees if chance.uniform() < 0.5 else -degrees
    turn = math.radians(degrees)
    width, height = image.size
    wide = math.ceil((width * math.cos(turn) + height * math.sin(turn) - width) / 2) + 2
    high = math.ceil((height * math.cos(turn) + width * math.sin(turn) - height) / 2) + 2
    wide, high = max(wide, 0), max(high, 0)
    padded = Image.fromarray(np.pad(np.asarray(image), ((high, high), (wide, wide), (0, 0)), "symmetric"))
    turned = padded.rotate(angle, Image.Resampling.BICUBIC)
    return turned.crop((wide, high, wide + width, high + height))


def _occlusion(image: Image.Image, share: float, chance: Chance) -> Image.Image:
    """A rectangle of that share of the photo in its mean colour, somewhere, from 1 : 2 to 2 : 1 of its proportions."""
    array = np.array(image)
    stretch = math.sqrt(2 ** (2 * chance.uniform() - 1))
    width, height = (
        max(1, round(side * math.sqrt(share) * way))
        for side, way in zip(image.size, (stretch, 1 / stretch), strict=True)
    )
    left, top = (
        math.floor(chance.uniform() * (side - part + 1)) for side, part in zip(image.size, (width, height), strict=True)
    )
    array[top : top + height, left : left + width] = array.sum((0, 1), np.int64) // (array.shape[0] * array.shape[1])
    return Image.fromarray(array)


@dataclass(frozen=True)
class Kind:
    """One way to spoil a photo.

    Args:
        values: its parameter at strengths 1, 2 and 3.
        parameter: what that is, with "{}" for the value.
        apply: photo, value and draws → photo of the same size.
    """

    values: tuple[float, float, float]
    parameter: str
    apply: Callable[[Image.Image, float, Chance], Image.Image]


KINDS = {
    "defocus": Kind((0.005, 0.01, 0.02), "disc of radius {:.1%} of the shorter side", _defocus),
    "motion": Kind((0.015, 0.03, 0.06), "line of {:.1%} of the shorter side", _motion),
    "noise": Kind((800, 200, 50), "{:g} electrons at white a pixel of 256 to the side", _noise),
    "under-exposure": Kind((4, 8, 16), "1/{:g} of the light", _under),
    "over-exposure": Kind((2, 3, 4), "{:g} times the light, clipped", _over),
    "jpeg": Kind((30, 15, 7), "quality {:g}, colour at half resolution", _jpeg),
    "rotation": Kind((7, 15, 30), "{:g}° to either side", _rotation),
    "occlusion": Kind((0.1, 0.2, 0.4), "rectangle over {:.0%} of the photo", _occlusion),
}  # fmt: skip
STRENGTHS = (1, 2, 3)


def corruption_named(name: str, strength: int) -> Corruption:
    """A corruption that is known.

    Raises:
        BadInput: it is not.
    """
    if name not in KINDS or strength not in STRENGTHS:
        raise BadInput(f"corruption {name!r} at strength {strength}", f"{', '.join(KINDS)}; strength 1, 2 or 3")
    return Corruption(name, strength)


def parameter_of(corruption: Corruption) -> str:
    """What a strength is, in words; empty for the clean photo."""
    kind = KINDS.get(corruption.name)
    return kind.parameter.format(kind.values[corruption.strength - 1]).replace("%", " %") if kind else ""


def corrupt(image: Image.Image, corruption: Corruption, digest: str) -> Image.Image:
    """A decoded photo, spoiled; the clean corruption gives it back as it is.

    Args:
        image: RGB, of any size.
        digest: of the clean photo's pixels: seeds what is drawn.

    Raises:
        BadInput: an unknown corruption.
    """
    if corruption == CLEAN:
        return image
    corruption_named(corruption.name, corruption.strength)
    kind = KINDS[corruption.name]
    return kind.apply(reduced(image), kind.values[corruption.strength - 1], Chance(digest, corruption.name))


def reduced(image: Image.Image) -> Image.Image:
    """The photo, or its mean over squares of pixels where it is large: shorter side 512 to 1,024."""
    factor = 1
    while min(image.size) // (factor * 2) >= _LARGE // 2:
        factor *= 2
    return image.reduce(factor) if factor > 1 else image
