"""Hypotheses that look at the graphs: a node computed otherwise, other weights, int8 ranges, the engine itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ... import machine
from ...errors import BadInput, EngineFailed
from ...export.graph.layers import LAYERS
from ...records.closeness import closeness
from ...records.parting import GAIN_DB, SAME_DB, Tried, is_named, ordered
from . import values
from .bisect import alike
from .definitions import GRAPH, defined
from .scene import Part, Scene, run_plain
from .variants import variants

if TYPE_CHECKING:
    import onnx

_LOW = ("int8", "fp8")
_INT16_PAIR = 128.5  # |w₁| + |w₂| above which 255 w₁ + 255 w₂ leaves int16
Constants = dict[tuple[str, int], np.ndarray]  # by node and position among its inputs


def causes(scene: Scene, floor_db: float) -> tuple[Tried, ...]:
    """What the files say, where that explains it; else every hypothesis, the likeliest first."""
    said = defined(scene)
    if said is not None and said.kind != GRAPH and is_named(said, floor_db):
        return (said,)
    found = [
        *([said] if said else []),
        *values.hypotheses(scene),
        *_while_it_runs(_varied(scene)),
        *_while_it_runs(_weights(scene, floor_db)),
        *_clipped(scene),
        *_while_it_runs(_engine(scene)),
    ]
    return ordered(found, floor_db)


def _while_it_runs(tried: Iterator[Tried]) -> Iterator[Tried]:
    """A part of a graph that does not run alone, such as one of another fixed batch, is no reason to find nothing."""
    try:
        yield from tried
    except (EngineFailed, BadInput):
        return


def _varied(scene: Scene) -> Iterator[Tried]:
    """The trusted graph computed otherwise gives what the other gives; or the other's, what the trusted gives."""
    ours, theirs = scene.ours, scene.theirs
    for part, other, verb in ((ours, theirs, "does"), (theirs, ours, "would have to do")):
        if part.model is None or part.feeds is None or (part is theirs and _engine_alone(scene)):
            continue
        for variant in variants(part.model):
            try:
                found = run_plain(variant.model, part.feeds)
                yield scene.tried(variant.kind, f"{theirs.side.name} {verb}: {variant.words}", found, other.value)
            except (EngineFailed, BadInput):  # one that fits neither the operator nor the shape
                continue


def _engine_alone(scene: Scene) -> bool:
    """The other's graph, as ONNX defines it, gives what the trusted one does: no change of it is called for."""
    part = scene.theirs
    assert part.model is not None and part.feeds is not None
    plain = closeness(*alike(scene.ours.value, run_plain(part.model, part.feeds)))
    return plain.sqnr_db > scene.before.sqnr_db + GAIN_DB


def _weights(scene: Scene, floor_db: float) -> Iterator[Tried]:
    """The other's constants in the trusted graph: a layer's weights alone, then all that differs in a node."""
    ours, theirs = scene.ours, scene.theirs
    if ours.model is None or theirs.model is None or ours.feeds is None:
        return
    held, made = constants(theirs), constants(ours)
    for node in ours.nodes:
        changed = {at: held[node.name, at] for at in range(len(node.input)) if _differ(node.name, at, made, held)}
        if node.op_type in LAYERS and 1 in changed:
            kind, words = _told(node.name, made[node.name, 1], changed[1])
            alone = scene.tried(kind, words, _with_constants(ours, node, {1: changed[1]}), theirs.value)
            yield alone
            if len(changed) == 1 or is_named(alone, floor_db):
                continue
        if changed:
            words = f"{node.name} has {_roles(node, changed)}"
            yield scene.tried("weights", words, _with_constants(ours, node, changed), theirs.value)


def _differ(node: str, at: int, made: Constants, held: Constants) -> bool:
    """Both have one of this shape there, and they are not the same."""
    wanted, found = made.get((node, at)), held.get((node, at))
    if wanted is None or found is None or wanted.shape != found.shape:
        return False
    return not np.array_equal(wanted, found)


def _roles(node: onnx.NodeProto, changed: Iterable[int]) -> str:
    if node.op_type == "Gather":
        return "another table"
    known = {1: "other weights", 2: "another bias"} if node.op_type in LAYERS else {}
    return " and ".join(dict.fromkeys(known.get(at, "other constants") for at in changed))


def _with_constants(part: Part, node: onnx.NodeProto, changed: Mapping[int, np.ndarray]) -> np.ndarray:
    """What the part gives with these in place of its node's own."""
    assert part.model is not None and part.feeds is not None
    own, model = constants(part), part.model
    for at, found in changed.items():
        model = _exchanged(model, node.input[at], found.astype(own[node.name, at].dtype))
    return run_plain(model, part.feeds)


def _told(node: str, wanted: np.ndarray, found: np.ndarray) -> tuple[str, str]:
    """How weights differ: no numbers, cut off at what int8 holds, or otherwise."""
    if not np.isfinite(found).all():
        return "weights", f"{node}'s weights hold {'NaN' if np.isnan(found).any() else 'infinity'}"
    gap = closeness(wanted, found)
    flat, seen = wanted.reshape(len(wanted), -1), found.reshape(len(found), -1)
    most = np.abs(seen).max(1, keepdims=True)
    cut = np.abs(flat) > most * (1 + 1 / 127)
    if cut.mean() > 1e-3 and closeness(np.clip(flat, -most, most), seen).sqnr_db > gap.sqnr_db + 6:
        words = f"{cut.mean() * 100:.2g} % of the weights of {node} are cut off at what its int8 holds"
        return "saturation", f"{words} (weights {gap.sqnr_db:.0f} dB)"
    return "weights", f"{node} has other weights ({gap.sqnr_db:.0f} dB from the trusted ones)"


def constants(part: Part) -> Constants:
    """Weights and biases by node and position, restored where they are rounded to 8 bits."""
    from onnx import numpy_helper

    from ...export.graph.dialect import axis_of, constants_of, spread

    assert part.model is not None
    held = {name: numpy_helper.to_array(each) for name, each in constants_of(part.model.graph).items()}
    for node in part.model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in held:
            whole, scale, *zero = (held[name] for name in node.input if name in held)
            shape = spread(np.size(scale), axis_of(node), whole.ndim)
            shift = zero[0].astype(np.float64).reshape(shape) if zero else 0
            held[node.output[0]] = ((whole.astype(np.float64) - shift) * scale.reshape(shape)).astype(np.float32)
    return {(node.name, at): held[name] for node in part.nodes for at, name in enumerate(node.input) if name in held}


def _exchanged(model: onnx.ModelProto, name: str, values: np.ndarray) -> onnx.ModelProto:
    import copy

    from onnx import numpy_helper

    made = copy.deepcopy(model)
    kept = [each for each in made.graph.initializer if each.name != name]
    made.graph.ClearField("initializer")
    made.graph.initializer.extend([*kept, numpy_helper.from_array(values, name)])
    for node in [each for each in made.graph.node if name in each.output]:
        made.graph.node.remove(node)
    return made


def _clipped(scene: Scene) -> Iterator[Tried]:
    """The trusted tensor cut off at what the other's quantizer holds."""
    part = scene.theirs
    graph = part.side.graph
    quantizer = graph.quantizer(graph.named[part.point.name].name) if graph and part.point.name in graph.named else None
    if graph is None or quantizer is None:
        return
    from ..explain.ranges import limits_of

    low, high = (float(np.ravel(each)[0]) for each in limits_of(graph.model, quantizer))
    wanted = scene.ours.value
    out = float(np.mean((wanted < low) | (wanted > high)))
    words = f"{part.side.precision} holds {low:.3g} to {high:.3g} here: {out * 100:.2g} % of the values are cut off"
    if out:
        yield scene.tried("saturation", words, np.clip(wanted, low, high), part.value)


def _engine(scene: Scene) -> Iterator[Tried]:
    """The other's own graph, in float and unfused, on the other's own tensors: what its engine was to compute."""
    part = scene.theirs
    if part.model is None or part.feeds is None:
        return
    plain, side = run_plain(part.model, part.feeds), part.side
    own = closeness(plain, part.value.reshape(plain.shape))
    backend, floats = side.run_config.backend, side.run_config.execution_precision
    if side.precision in _LOW:
        words = f"{backend}'s {side.precision} kernels give {own.sqnr_db:.0f} dB of what the same graph gives in float "
        words += "of the same inputs"
        if side.precision == "fp8":  # accumulated in float: nothing to overflow
            yield scene.tried("engine", words, scene.ours.value, plain)
            return
        share = _overflowing(part)
        lacks = "" if machine.has_vnni() else ", and this CPU has no VNNI"
        words += f"; {share * 100:.2g} % of its pairs of weights can leave int16{lacks}"
        yield scene.tried("saturation", words, scene.ours.value, plain, own.sqnr_db < SAME_DB and share > 0)
    elif floats != "fp32":
        words = f"{backend} computes it in {floats}: {own.sqnr_db:.0f} dB of what float32 gives of the same inputs"
        yield scene.tried("precision", words, scene.ours.value, plain)
    else:
        words = f"the same graph unoptimized agrees: {backend} computes or fuses it otherwise"
        yield scene.tried("engine", words, scene.ours.value, plain)


def _overflowing(part: Part) -> float:
    """Share of neighbouring pairs of int8 weights whose products with 255 can leave int16, of its largest layer."""
    from onnx import numpy_helper

    from ...export.graph.dialect import constants_of

    assert part.model is not None
    held = [numpy_helper.to_array(each) for each in constants_of(part.model.graph).values()]
    whole = [each for each in held if each.dtype == np.int8 and each.ndim > 1]
    if not whole:
        return 0.0
    flat = np.abs(max(whole, key=np.size).reshape(-1).astype(np.int64))
    pairs = flat[: flat.size // 2 * 2].reshape(-1, 2).sum(1)
    return float(np.mean(pairs > _INT16_PAIR))
