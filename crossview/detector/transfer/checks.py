"""Whether what a file holds fits a detector; every error says which file, layer and key it is about."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from crossview.data.errors import DataError
from crossview.detector.ssd import SSD
from crossview.detector.transfer.files import Tower, TrainedFile
from crossview.detector.weight_files import shortened

BACKBONE, CLASS_HEADS, BOX_HEADS = "backbone.", "class_heads.", "box_heads."
EXTRA_STATE = "_extra_state"


def layer_of(name: str) -> str:
    """The layer that a tensor belongs to."""
    return name.rpartition(".")[0]


def map_number(name: str) -> int:
    """The feature map that a head belongs to."""
    return int(name.split(".")[1])


def tensors_of(detector: SSD) -> dict[str, Tensor]:
    """The tensors of a detector by name, weights and buffers."""
    return {name: value for name, value in detector.state_dict().items() if not name.endswith(EXTRA_STATE)}


def missing_layers(path: Path, source: str, tower: Tower, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Layers of the detector that the file does not have.

    Raises:
        DataError: If one of them belongs to the backbone, or the file has a part of its tensors.
    """
    missing = [name for name in state if name not in tower.tensors]
    backbone = [name for name in missing if name.startswith(BACKBONE)]
    if backbone:
        count = sum(name.startswith(BACKBONE) for name in state)
        raise DataError(
            f"{path}: {len(backbone)} of the backbone's {count} tensors are not in the file ({source}): "
            f"{shortened(backbone)}; expected all of them. Nothing was loaded. Is it the same backbone?"
        )
    layers = tuple(dict.fromkeys(map(layer_of, missing)))
    present = {layer_of(name) for name in tower.tensors}
    for name in missing:
        if layer_of(name) in present:
            raise DataError(
                f"{path}: {name} is not in the file ({source}), though other tensors of {layer_of(name)} are; expected "
                "whole layers. Nothing was loaded. Is the file damaged?"
            )
    return layers


def check_shapes(path: Path, source: str, tower: Tower, state: Mapping[str, Tensor]) -> None:
    """Compares shapes, of class heads all but the number of outputs.

    Raises:
        DataError: If a shape or the number of anchors in a cell differs, or a value is not finite.
    """
    # Class heads last: if the number of anchors differs, the box heads say so more plainly.
    for name in sorted(filter(tower.tensors.__contains__, state), key=lambda name: name.startswith(CLASS_HEADS)):
        found, expected = tower.tensors[name], state[name]
        place = f"{path}: {name} (key {tower.keys[name]}, {source})"
        first = 1 if name.startswith((CLASS_HEADS, BOX_HEADS)) else 0
        if found.ndim != expected.ndim or found.shape[first:] != expected.shape[first:]:
            raise DataError(
                f"{place}: found shape {tuple(found.shape)}, expected {tuple(expected.shape)}. Nothing was loaded. Has "
                "the network the same backbone, channels and stages?"
            )
        if name.startswith(BOX_HEADS) and found.shape[0] != expected.shape[0]:
            raise DataError(
                f"{place}: found {found.shape[0] / 4:g} anchors in a cell of feature map {map_number(name)}, expected "
                f"{expected.shape[0] // 4}. Nothing was loaded. Set model.anchors.aspect_ratios (and "
                "two_boxes_for_ratio_1) to those that the file was trained with"
            )
        if not found.isfinite().all():
            raise DataError(f"{place}: found NaN or infinity; nothing was loaded. Get the file anew")


def class_count(path: Path, source: str, tower: Tower, state: Mapping[str, Tensor]) -> int:
    """Foreground classes of the file's class heads.

    Raises:
        DataError: If the heads do not agree on a number.
    """
    counts = {
        name: tower.tensors[name].shape[0] / (state[name.replace(CLASS_HEADS, BOX_HEADS)].shape[0] // 4) - 1
        for name in state
        if name.startswith(CLASS_HEADS) and name in tower.tensors
    }
    found = sorted(set(counts.values()))
    if len(found) != 1 or found[0] < 1 or not found[0].is_integer():
        each = ", ".join(f"{tower.keys[name]}: {count:g}" for name, count in counts.items() if name.endswith("weight"))
        raise DataError(
            f"{path}: the class heads ({source}) have these numbers of classes beside background: {each or 'none'}; "
            "expected the same whole number for all. Nothing was loaded. Were they trained with the anchors of "
            "model.anchors.aspect_ratios?"
        )
    return int(found[0])


def check_variances(path: Path, file: TrainedFile, detector: SSD) -> None:
    """Compares the variances of the box offsets, as far as the file tells them.

    Raises:
        DataError: If they differ, which would scale every box.
    """
    found = file.anchors.variances
    if found is not None and tuple(map(float, found)) != detector.variances:
        raise DataError(
            f"{path}: trained with box variances {list(found)}, the network has {list(detector.variances)}. Nothing "
            f"was loaded. Set 'model.variances={list(found)}'"
        )
