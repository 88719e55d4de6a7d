"""`timm:NAME`: a network of timm with its pretrained_cfg. With `--weights`, one's own weights for `--labels`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...errors import BadInput, EngineMissing
from .classifier import Brought, as_source
from .huggingface import cropped_from, require_filter
from .source import Source
from .state import load_weights
from .told import Told

KIND = "timm"
PREFIX = "timm:"


def claims(text: str) -> bool:
    """`timm:…`."""
    return text.startswith(PREFIX)


def load(text: str, told: Told) -> Source:
    """Raises BadInput for an unknown name or weights that do not fit; EngineMissing where timm cannot be imported."""
    try:
        import timm
        from timm.data import create_transform, resolve_data_config
    except Exception as error:  # of torchvision's operators too, beside a torch of another build
        raise EngineMissing(
            f"timm cannot be imported ({error})",
            "timm beside the torch that torchvision was built for",
            "pip install timm, or save the model to .onnx or .pt2 where it can be",
        ) from error
    labels = told.label_names()
    own = {"num_classes": len(labels)} if labels and told.weights else {}
    try:
        module = timm.create_model(text.removeprefix(PREFIX), pretrained=told.weights is None, **own)
    except Exception as error:  # timm's, the hub's
        raise BadInput(f"{text}: {error}", "a name that timm.list_models() has") from error
    notes = load_weights(module, told.weights) if told.weights else ()
    names, said = (None, ()) if told.weights or labels else label_names(module)
    config = dict(module.pretrained_cfg)
    word = {"interpolation": told.interpolation} if told.interpolation else {}
    fields = host_fields({**config, **word})
    if fields["height"] == fields["width"]:
        transform = create_transform(**resolve_data_config(word, model=module), is_training=False)
    else:
        transform, said = None, (*said, "timm resizes in another way where sides are not alike: not checked on photos")
    brought = Brought(text, KIND, module, str(config["architecture"]), labels or names, fields, notes=(*notes, *said),
                      transform=transform)  # fmt: skip
    return as_source(brought, told)


def label_names(module: Any) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Of timm's own weights, and what there is to say of them: its pretrained_cfg seldom names its classes.

    ImageNet's subsets are told by how many classes they have. A class gets the first of its names, and WordNet's number
    behind it where another class has the same.
    """
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if own := module.pretrained_cfg.get("label_names"):
        return tuple(own), ()
    subset = infer_imagenet_subset(module)
    if not subset:
        return None, ()
    info = ImageNetInfo(subset)
    words = [info.index_to_description(index).partition(",")[0] for index in range(info.num_classes())]
    times = Counter(words)
    names = [f"{word} ({info.index_to_label_name(index)})" if times[word] > 1 else word
             for index, word in enumerate(words)]  # fmt: skip
    return tuple(names), (f"labels are those of {subset}, which has as many classes",)


def host_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """`Preprocess`'s fields of a pretrained_cfg, as timm evaluates: sides are cut off, not rounded.

    Raises:
        BadInput: it does something that the host part cannot.
    """
    channels, height, width = config["input_size"]
    if channels != 3:
        raise BadInput(f"pretrained_cfg: {channels} channels", "3: colour photos")
    mode, crop = config.get("crop_mode", "center"), float(config.get("crop_pct", 0.875))
    if mode not in ("center", "squash"):
        raise BadInput(f"pretrained_cfg: crop_mode {mode!r}", "center or squash",
                       "tell the preprocessing by --preprocess FILE.json")  # fmt: skip
    resized = (int(height / crop), int(width / crop))
    mean, std = (tuple(value * 255 for value in config[key]) for key in ("mean", "std"))
    return {
        **cropped_from(resized, (height, width), "pretrained_cfg"),
        "interpolation": require_filter(str(config.get("interpolation", "bilinear")), "pretrained_cfg"),
        "fit": "squeeze" if mode == "squash" else "crop",
        "rounding": "torchvision" if height == width else "nearest",
        "mean": mean,
        "std": std,
    }
