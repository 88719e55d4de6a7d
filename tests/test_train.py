"""train/: checkpoints on disk, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiffin.errors import BadInput
from tiffin.train import DEFAULT_CHECKPOINT, Checkpoint, load_checkpoint
from tiffin.train.checkpoint import save_checkpoint
from tiffin.train.network import ARCHITECTURES, build_network


@pytest.fixture
def copy(checkpoint_file: Path, tmp_path: Path) -> Path:
    """A checkpoint of this test alone."""
    for ending in (".safetensors", ".json"):
        shutil.copy(checkpoint_file.with_suffix(ending), tmp_path / f"mine{ending}")
    return tmp_path / "mine.safetensors"


def rewrite_meta(path: Path, **changed: object) -> None:
    meta = path.with_suffix(".json")
    meta.write_text(json.dumps({**json.loads(meta.read_text()), **changed}))


def rewrite_weights(path: Path, change) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path)


def test_the_shipped_checkpoint_is_the_one_that_its_json_describes() -> None:
    meta = json.loads(DEFAULT_CHECKPOINT.with_suffix(".json").read_text())
    shipped = load_checkpoint()
    assert shipped.sha256 == hashlib.sha256(DEFAULT_CHECKPOINT.read_bytes()).hexdigest() == meta["sha256"]
    assert (shipped.architecture, shipped.labels) == (meta["architecture"], tuple(meta["labels"]))
    assert len(shipped.labels) == len(set(shipped.labels)) == 81
    host = shipped.preprocess
    assert not shipped.module.training
    assert shipped.module(torch.zeros(1, 3, host.height, host.width)).shape == (1, 81)


def test_the_round_trip(checkpoint: Checkpoint, tmp_path: Path) -> None:
    again = load_checkpoint(save_checkpoint(tmp_path / "folder/again.safetensors", checkpoint))
    assert (again.labels, again.preprocess) == (checkpoint.labels, checkpoint.preprocess)
    assert again.sha256 == checkpoint.sha256
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(again.module(images), checkpoint.module(images))


def test_half_weights_are_widened(copy: Path, checkpoint: Checkpoint) -> None:
    rewrite_weights(copy, lambda state: state.update({k: v.half() for k, v in state.items() if v.is_floating_point()}))
    loaded = load_checkpoint(copy)
    assert {value.dtype for value in loaded.module.parameters()} == {torch.float32}
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded.module(images), checkpoint.module(images), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_gives_a_logit_a_class(architecture: str) -> None:
    network = build_network(architecture, 7).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.unlink(), "no such checkpoint"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be read"),
        (lambda path: path.write_bytes(b"\x80pickle" * 50), "cannot be read"),
        (lambda path: path.with_suffix(".json").unlink(), "missing"),
        (lambda path: path.with_suffix(".json").write_text("{"), "not JSON"),
        (lambda path: path.with_suffix(".json").write_text("[]"), "no JSON object"),
        (lambda path: path.with_suffix(".json").write_text("7"), "no JSON object"),
        (lambda path: path.with_suffix(".json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
        (lambda path: path.with_suffix(".json").write_text('{"labels": ["a"]}'), "lacks architecture, preprocess"),
        (lambda path: rewrite_meta(path, architecture="resnet"), "unknown architecture 'resnet'"),
        (lambda path: rewrite_meta(path, labels=["apple", "leek"]), "another shape.*head"),
        (lambda path: rewrite_meta(path, labels=7), "labels"),
        (lambda path: rewrite_meta(path, labels="soup"), "labels"),
        (lambda path: rewrite_meta(path, labels=[1, 2, 3, 4]), "labels"),
        (lambda path: rewrite_meta(path, preprocess={"height": 32}), "preprocess"),
        (lambda path: rewrite_meta(path, preprocess=3), "preprocess"),
        (lambda path: rewrite_weights(path, lambda state: state.pop("head.bias")), "missing or extra.*head.bias"),
        (lambda path: rewrite_weights(path, lambda s: s.update(more=torch.zeros(1))), "missing or extra.*more"),
        (lambda path: rewrite_weights(path, lambda s: s["head.bias"].fill_(float("nan"))), "NaN"),
    ],
)
def test_a_broken_checkpoint_is_named(copy: Path, change, said: str) -> None:
    change(copy)
    with pytest.raises(BadInput, match=said):
        load_checkpoint(copy)
