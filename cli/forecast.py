"""What `tiffin doctor --for int8` tells: which layers int8 will hurt, how much, and the option that helps."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from . import render
from .options import PER_CLASS

if TYPE_CHECKING:  # onnx and numpy, which `tiffin --help` does without
    import numpy as np
    import onnx

    from ..artifact import Artifact
    from ..artifact.scheme import Scheme
    from ..data import Photo
    from ..records.foretold import Forecast, Foretold

_CHANNELS, _OUTLIER = 4.0, 1.5  # a channel's span by the median; a range by its middle
_HELPS_DB, _ALIKE_DB = 1.0, 0.5  # worth telling; of two remedies no difference
_FLOATS = 3  # layers left in float, of which it is told what that brings


@dataclass(frozen=True)
class Asked:
    """What is to be foretold: a source of a trained classifier or an artifact, a scheme, photos, rows to print."""

    source: str
    scheme: str = "cpu"
    data: Path | None = None
    photos: int = 16
    rows: int = 12
    seed: int = 0


def tell(asked: Asked, as_json: bool) -> None:
    """Look at every layer and print what int8 will do to it."""
    from ..artifact.scheme import scheme_named
    from ..quantize.forecast import forecast

    scheme = scheme_named(asked.scheme)
    with tempfile.TemporaryDirectory(prefix="tiffin-doctor-") as scratch:
        given = _opened(asked, Path(scratch))
    render.echo_options(source=asked.source, scheme=scheme.name, **given.about, seed=asked.seed)
    step = (lambda done, total: None) if as_json else render.TerminalProgress().counted("layers")
    found = forecast(given.model, given.shown, given.calibration, step)
    if not found.layers:
        raise BadInput(f"{asked.source}: no layer that int8 would round", "convolutions or matrix products")
    if as_json:
        from .plain import as_json as text

        render.show(text({"source": asked.source, **given.about, **forecast_json(found, scheme, given.classifies)}))
        return
    render.show(f"\n{forecast_text(found, scheme, asked.rows, given.classifies)}")
    _next(asked, scheme)


@dataclass(frozen=True)
class _Given:
    """The float graph, photos as it takes them, to look at and to take ranges of, and what is said of them.

    Args:
        classifies: it answers with classes.
    """

    model: onnx.ModelProto
    shown: np.ndarray
    calibration: np.ndarray
    about: Mapping[str, Any]
    classifies: bool


def _opened(asked: Asked, work: Path) -> _Given:
    import numpy as np

    from ..data import balanced, sample
    from ..data.prepared import prepare_photos
    from .build import dataset_of

    dataset = dataset_of(asked.data)
    host, graph_of, classifies = _source(asked.source, work)

    def prepared(drawn: tuple[Photo, ...]) -> np.ndarray:
        return np.array(prepare_photos(drawn, host, work, dataset.kind).array())

    role = "select" if dataset.roles.get("select") else "calibrate"
    shown = prepared(sample(dataset.role(role), asked.photos, asked.seed))
    calibration = prepared(balanced(dataset.role("calibrate"), PER_CLASS, asked.seed))
    about = {"data": dataset.name, "role": role, "photos": len(shown), "ranges_of": len(calibration)}
    return _Given(graph_of(shown), shown, calibration, about, classifies)


def _source(text: str, work: Path) -> tuple[Any, Any, bool]:
    """How its photos are prepared, what makes the float ONNX graph of it, and whether it classifies."""
    from ..artifact import Artifact
    from ..artifact.store import is_artifact
    from ..export.from_source import export_source
    from ..export.onnx_source import read_onnx
    from .sources import opened

    if is_artifact(text):
        artifact = Artifact.load(text)
        _require_float(artifact)
        classifies = artifact.manifest.task == "classification"
        return artifact.preprocess, lambda shown: read_onnx(artifact.model_path), classifies
    source = opened(text)

    def graph_of(shown: np.ndarray) -> onnx.ModelProto:
        return read_onnx(export_source(source, work / "onnx", shown)[0].model_path)

    return source.model.preprocess, graph_of, True


def _require_float(artifact: Artifact) -> None:
    from ..quantize.quantize import require_row_by_row

    manifest = artifact.manifest
    if manifest.format != "onnx" or manifest.precision != "fp32":
        raise BadInput(
            f"{artifact.folder}: {manifest.format}, {manifest.precision}",
            "the fp32 ONNX artifact that would be quantized, or a checkpoint",
            "name what `tiffin export` wrote; of what is quantized, `tiffin sensitivity` measures the layers",
        )
    require_row_by_row(artifact)


def forecast_json(found: Foretold, scheme: Scheme, classifies: bool = True) -> dict[str, Any]:
    """All that the tables say and are derived from; divergence and flips are of classes alone."""
    of_classes = {"kl": found.kl(scheme), "flips": found.flips(found.ratio(scheme))} if classifies else {}
    layers = [
        {"node": each.node, "op": each.op, "sqnr_db": each.sqnr_db(scheme), "of_noise": _share(each, found, scheme),
         "by_inputs": _by_inputs(each, scheme), "why": reasons(each, scheme), "remedy": remedy(each, scheme)}
        for each in worst(found, scheme)
    ]  # fmt: skip
    return {"scheme": scheme.name, "answers_db": found.sqnr_db(scheme), **of_classes, "layers": layers,
            "otherwise": {words: found.sqnr_db(*how) for words, how in _otherwise(found, scheme).items()}}  # fmt: skip


def worst(found: Foretold, scheme: Scheme) -> list[Forecast]:
    """Layers that a scheme rounds, those first whose own rounding adds most noise to their signal."""
    return sorted((each for each in found.layers if sum(each.noise(scheme))), key=lambda each: each.sqnr_db(scheme))


def _share(layer: Forecast, found: Foretold, scheme: Scheme) -> float:
    """Of the sum of all layers' noise-to-signal ratios."""
    ratios = {each.node: sum(each.noise(scheme)) / each.signal for each in found.layers if each.signal > 0}
    return ratios.get(layer.node, 0.0) / (sum(ratios.values()) or 1.0)


def _by_inputs(layer: Forecast, scheme: Scheme) -> float:
    """Share of its noise that comes of rounding its inputs; the rest comes of its weights."""
    by_inputs, by_weights = layer.noise(scheme)
    return by_inputs / ((by_inputs + by_weights) or 1.0)


def reasons(layer: Forecast, scheme: Scheme) -> list[str]:
    """What makes it hurt, in words."""
    weights = _by_inputs(layer, scheme) < 0.5
    known = {
        f"weights of {scheme.weight_bits} bits" if weights else "input rounds": True,
        "depthwise": layer.depthwise,
        f"a few values widen its range ×{layer.outlier:.1f}": layer.outlier > _OUTLIER,
        f"channels differ ×{layer.spread:.0f}": layer.spread > _CHANNELS,
        f"behind {layer.source}, unbounded": bool(layer.source) and layer.source != "Add",
        "behind a residual add": layer.source == "Add",
    }
    return [words for words, holds in known.items() if holds]


def remedy(layer: Forecast, scheme: Scheme) -> str:
    """The option that is foretold to win most at this layer, and how much; leaving it in float where none wins."""
    from ..artifact.scheme import scheme_named

    now = layer.sqnr_db(scheme)
    gains = {"--ranges percentile": layer.sqnr_db(scheme, "percentile") - now}
    if "onnxruntime" in scheme.engines:
        gains |= {f"--scheme {word}": layer.sqnr_db(scheme_named(word)) - now for word in ("cpu-vnni", "cpu-u8")}
    most = max(gains.values())
    best = next(option for option, gain in gains.items() if gain > most - _ALIKE_DB)  # the first of those alike
    if gains[best] >= _HELPS_DB:
        return f"{best} (+{gains[best]:.1f} dB)"
    if layer.spread > _CHANNELS and layer.op in ("Gemm", "MatMul"):
        return "--smooth --quantizer nncf"
    return "--float-node"


def forecast_text(found: Foretold, scheme: Scheme, rows: int, classifies: bool = True) -> str:
    """The layers that hurt most, what the answers are foretold to lose, and what else could be done: 80 columns."""
    listed = worst(found, scheme)[:rows]
    cells = [
        [each.node, each.op, f"{each.sqnr_db(scheme):.1f}", f"{_share(each, found, scheme):.0%}", remedy(each, scheme)]
        for each in listed
    ]
    table = render.Table(("layer", "op", "SQNR dB", "of noise", "what helps it most"), cells, left=2)
    whys = [f"{each.node}: {', '.join(reasons(each, scheme))}" for each in listed[:5]]
    flips = f": KL {found.kl(scheme) * 1e3:.2f} mnat, {found.flips(found.ratio(scheme)):.2%} of photos flip"
    head = (
        f"int8, scheme {scheme.name}, is foretold to leave the answers {found.sqnr_db(scheme):.1f} dB above its noise"
        f"{flips if classifies else ''} ({found.photos} photos looked at)"
    )
    others = [f"{words}: {found.sqnr_db(*how):.1f} dB" for words, how in _otherwise(found, scheme).items()]
    notes = [
        *whys,
        f"the answers otherwise: {'; '.join(others)}",
        "rounding alone, in float: kernels that saturate, and what --compensate wins back, are not in it; "
        "`tiffin sensitivity` measures a quantized artifact",
    ]
    return f"{render.wrapped([head])}\n\n{table.text()}\n\n{render.wrapped(notes)}"


def _otherwise(found: Foretold, scheme: Scheme) -> dict[str, tuple[Any, ...]]:
    """Options → arguments of `Foretold.sqnr_db`."""
    from ..artifact.scheme import SCHEMES

    told: dict[str, tuple[Any, ...]] = {
        f"--scheme {word}": (other,) for word, other in SCHEMES.items() if word != scheme.name
    }
    if not scheme.symmetric_activations:
        told["--ranges percentile"] = (scheme, "percentile")
    floats = tuple(each.node for each in worst(found, scheme)[:_FLOATS])
    told[f"the first {_FLOATS} as --float-node"] = (scheme, "minmax", floats)
    return told


def _next(asked: Asked, scheme: Scheme) -> None:
    """Quantize as asked, where the source is an artifact; export it first, where it is not."""
    from ..artifact.store import is_artifact

    if is_artifact(asked.source):
        render.next_command("quantize", asked.source, scheme=scheme.name)
    else:
        render.next_command("export", asked.source)


def require_known(word: str) -> None:
    """Raises BadInput where `--for` names nothing that is foretold."""
    if word != "int8":
        raise BadInput(f"--for {word}", "int8")
