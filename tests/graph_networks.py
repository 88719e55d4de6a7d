"""Networks that are no classifiers, small, of the layers that the real ones have, each trained for some seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tiffin.artifact import Artifact, Preprocess
from tiffin.export.module import export_module
from tiffin.tests.conftest import draw

CLASSES = 3  # of a pixel: background, round fruit, box
SIDE, LATENT = 32, 16
HOST = Preprocess(SIDE, SIDE, mean=(127.5,) * 3, std=(127.5,) * 3)
LossOf = Callable[[object, torch.Tensor], torch.Tensor]


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def up(inputs: int, outputs: int) -> nn.Sequential:
    """DCGAN's step: transposed convolution, batch norm, LeakyReLU; doubles the side."""
    convolution = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2, inplace=True))


class FCN(nn.Module):
    """Long et al., CVPR 2015, arXiv 1411.4038: scores at two depths, the deeper ones enlarged and added."""

    def __init__(self) -> None:
        super().__init__()
        self.shallow = nn.Sequential(block(3, 16), block(16, 24, 2), block(24, 24))
        self.deep = nn.Sequential(block(24, 48, 2), block(48, 48))
        self.score_shallow, self.score_deep = nn.Conv2d(24, CLASSES, 1), nn.Conv2d(48, CLASSES, 1)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        shallow = self.shallow(photos)
        deep = F.interpolate(self.score_deep(self.deep(shallow)), scale_factor=2, mode="bilinear", align_corners=False)
        scores = self.score_shallow(shallow) + deep
        return F.interpolate(scores, scale_factor=2, mode="bilinear", align_corners=False)


class UNet(nn.Module):
    """Ronneberger et al., MICCAI 2015, arXiv 1505.04597: the way down is concatenated to the way up."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.bottom = block(3, 16), block(16, 24), block(24, 32)
        self.up_second, self.up_first = nn.ConvTranspose2d(32, 24, 2, 2), nn.ConvTranspose2d(24, 16, 2, 2)
        self.join_second, self.join_first = block(48, 24), block(32, 16)
        self.head = nn.Conv2d(16, CLASSES, 1)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        first = self.first(photos)
        second = self.second(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, 2))
        second = self.join_second(torch.cat([self.up_second(bottom), second], 1))
        return self.head(self.join_first(torch.cat([self.up_first(second), first], 1)))


class Autoencoder(nn.Module):
    """Convolutions down to a code, transposed ones back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(block(3, 16, 2), block(16, 32, 2))
        self.decoder = nn.Sequential(up(32, 16), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Sigmoid())

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(photos))


class VAE(nn.Module):
    """Kingma & Welling, ICLR 2014, arXiv 1312.6114; decodes the mean in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(block(3, 16, 2), block(16, 32, 2), nn.Flatten())
        self.mean, self.log_variance = nn.Linear(32 * 64, LATENT), nn.Linear(32 * 64, LATENT)
        self.widen = nn.Linear(LATENT, 32 * 64)
        self.decoder = nn.Sequential(up(32, 16), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Sigmoid())

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        code = self.encoder(image)
        mean, log_variance = self.mean(code), self.log_variance(code)
        drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        wide = F.leaky_relu(self.widen(drawn), 0.2).unflatten(1, (32, 8, 8))
        return {"reconstruction": self.decoder(wide), "mean": mean, "log_variance": log_variance}


class Generator(nn.Module):
    """Radford et al., ICLR 2016, arXiv 1511.06434: a code becomes a picture in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Sequential(
            nn.ConvTranspose2d(LATENT, 64, 4, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.2, inplace=True)
        )
        self.body = nn.Sequential(up(64, 32), up(32, 16), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh())

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.body(self.start(latent[:, :, None, None]))


def scenes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Photos uint8 `(count, 32, 32, 3)` of a round fruit and a box on stripes, and the class of each pixel."""
    rng = np.random.default_rng(seed)
    photos = np.stack([draw(int(rng.integers(4)), rng) for _ in range(count)])
    truth = np.zeros((count, SIDE, SIDE), np.int64)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for photo, classes in zip(photos, truth, strict=True):
        centre, corner = rng.integers(8, 24, 2), rng.integers(2, 20, 2)
        round_ = np.hypot(y - centre[0], x - centre[1]) < rng.uniform(5, 9)
        box = (abs(y - corner[0] - 5) < 6) & (abs(x - corner[1] - 5) < 6) & ~round_
        photo[round_] = np.clip(rng.normal([230, 200, 30], 12, (round_.sum(), 3)), 0, 255)
        photo[box] = np.clip(rng.normal([30, 50, 200], 12, (box.sum(), 3)), 0, 255)
        classes[round_], classes[box] = 1, 2
    return photos, truth


def codes(count: int, seed: int) -> np.ndarray:
    """Latent vectors float32 `(count, LATENT)`."""
    return np.random.default_rng(seed).standard_normal((count, LATENT)).astype(np.float32)


def unit(photos: np.ndarray) -> np.ndarray:
    """NCHW float32 in [0, 1]."""
    return (photos.transpose(0, 3, 1, 2) / 255).astype(np.float32)


@dataclass(frozen=True)
class Kind:
    """One network of the table.

    Args:
        task: of `export_module`.
        feeds: seed → 64 rows by input name.
        output: what is compared.
        peak: of a picture; 0 of a map of classes.
        photos: it takes photos, normalized in the graph.
    """

    build: Callable[[], nn.Module]
    task: str
    feeds: Callable[[int], Mapping[str, np.ndarray]]
    output: str
    peak: float
    photos: bool = False


def _photos(seed: int) -> dict[str, np.ndarray]:
    return {"photos": scenes(64, seed)[0]}


KINDS = {
    "fcn": Kind(FCN, "segmentation", _photos, "scores", 0, photos=True),
    "unet": Kind(UNet, "segmentation", _photos, "scores", 0, photos=True),
    "autoencoder": Kind(Autoencoder, "autoencoder", _photos, "picture", 1, photos=True),
    "vae": Kind(VAE, "autoencoder", lambda seed: {"image": unit(scenes(64, seed)[0])}, "reconstruction", 1),
    "dcgan": Kind(Generator, "generator", lambda seed: {"latent": codes(64, seed)}, "picture", 2),
}


def trained(name: str) -> nn.Module:
    """With 40 steps on drawn photos, the same each time."""
    kind = KINDS[name]
    pictures, classes = scenes(128, seed=0)
    photos, targets = torch.from_numpy(unit(pictures)), torch.from_numpy(classes)
    inputs = {"vae": photos, "dcgan": torch.from_numpy(codes(128, seed=0))}.get(name, photos * 2 - 1)
    wanted = {"segmentation": targets, "generator": photos * 2 - 1}.get(kind.task, photos)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind.build().train()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(5):
            for rows in torch.randperm(len(inputs)).split(16):
                optimizer.zero_grad()
                _loss(kind.task, network(inputs[rows]), wanted[rows]).backward()
                optimizer.step()
    return network.eval()


def _loss(task: str, found: torch.Tensor | dict[str, torch.Tensor], wanted: torch.Tensor) -> torch.Tensor:
    """Of a generator the distance from pictures that belong to its codes: Bojanowski et al., arXiv 1707.05776."""
    if task == "segmentation":
        return F.cross_entropy(found, wanted)
    if isinstance(found, dict):  # the evidence's bound, per pixel
        mean, log_variance = found["mean"], found["log_variance"]
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return F.mse_loss(found["reconstruction"], wanted) + 1e-4 * divergence
    return F.mse_loss(found, wanted)


def exported(name: str, network: nn.Module, out: Path) -> Artifact:
    """As fp32 ONNX."""
    kind = KINDS[name]
    outputs = None if name == "vae" else [kind.output]
    host = HOST if kind.photos else None
    return export_module(network, kind.feeds(1), out, kind.task, outputs, host)[0]
