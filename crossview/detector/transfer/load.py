"""Weights of a trained detector into a detector of other classes: everything is checked before anything changes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from crossview.build import ConfigError
from crossview.detector.anchors import AnchorGrid
from crossview.detector.ssd import SSD
from crossview.detector.transfer.checks import (
    BOX_HEADS,
    CLASS_HEADS,
    check_shapes,
    check_variances,
    class_count,
    layer_of,
    map_number,
    missing_layers,
    tensors_of,
)
from crossview.detector.transfer.classes import match_classes, source_names
from crossview.detector.transfer.files import AnchorFacts, TrainedFile
from crossview.detector.transfer.heads import PUBLISHED_RATIOS, anchor_order, reordered, sampled
from crossview.detector.transfer.readers import read_trained_file
from crossview.detector.transfer.report import TransferReport

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassChoice:
    """Which classes are mine and where they come from.

    Attributes:
        class_names: My classes, in the order of their labels.
        source_classes: Those of the file: ``voc``, ``coco``, names, or None for what the file itself says.
        class_map: Class of the file by my class; equal names need no entry, None starts a class at random.
    """

    class_names: Sequence[str]
    source_classes: str | Sequence[str] | None = None
    class_map: Mapping[str, str | None] | None = None


@dataclass(frozen=True)
class Transfer:
    """A checked transfer that has not happened yet.

    Attributes:
        detector: Where the values go.
        values: New tensors by the detector's names.
        report: What `apply` will have done.
    """

    detector: SSD
    values: Mapping[str, Tensor]
    report: TransferReport

    @torch.no_grad()
    def apply(self) -> None:
        """Changes the detector."""
        state = self.detector.state_dict()
        for name, value in self.values.items():
            state[name].copy_(value)
        if self.report.preprocessing is not None:
            self.detector.backbone.use_preprocessing(self.report.preprocessing)


class _Sources(NamedTuple):
    """For each of my classes its index in the file's classes or None, and the names of the file's classes."""

    indices: tuple[int | None, ...]
    names: tuple[str, ...]


def load_detector_weights(
    detector: SSD,
    path: str | Path,
    class_names: Sequence[str],
    source_classes: str | Sequence[str] | None = None,
    class_map: Mapping[str, str | None] | None = None,
) -> TransferReport:
    """Loads a trained detector and takes over the input standardisation that belongs to it.

    Nothing changes unless the whole backbone is found and everything that is found fits.

    Args:
        detector: Where the weights go.
        path: A file in one of the formats of `crossview.detector.transfer.readers`.
        class_names: Classes of ``detector``.
        source_classes: Classes of the file, see `ClassChoice`.
        class_map: Class of the file by mine, see `ClassChoice`.

    Returns:
        The report, which is logged too.

    Raises:
        DataError: If the file cannot be used for this detector.
        ConfigError: If the classes cannot be matched.
    """
    file = read_trained_file(Path(path))
    transfer = plan_transfer(detector, Path(path), file, ClassChoice(class_names, source_classes, class_map))
    transfer.apply()
    report = replace(transfer.report, unused=transfer.report.unused + file.unused_beside(views=1))
    logger.info("%s", report)
    return report


def plan_transfer(detector: SSD, path: Path, file: TrainedFile, choice: ClassChoice, view: int = 0) -> Transfer:
    """Checks a file against a detector and works out the new tensors.

    Args:
        detector: Where they go.
        path: Of the file, for messages.
        file: What it holds.
        choice: My classes and their sources.
        view: Which detector of the file, 0 or 1, if it has two.

    Raises:
        DataError: If a tensor of the backbone is missing, a layer is there in part only, a shape, the number of anchors
            or the variances differ, or a value is not finite.
        ConfigError: If the classes cannot be matched.
    """
    tower, state = file.tower(view), tensors_of(detector)
    random = missing_layers(path, file.source, tower, state)
    check_shapes(path, file.source, tower, state)
    check_variances(path, file, detector)
    sources = _class_sources(path, file, choice, class_count(path, file.source, tower, state))
    values = {name: tower.tensors[name] for name in state if name in tower.tensors}
    head_values, notes = _heads(values, state, file.anchors, detector.anchor_grid, sources)
    same_classes = sources.indices == tuple(range(len(sources.names)))
    layers = tuple(dict.fromkeys(map(layer_of, values)))
    sampled_layers = () if same_classes else tuple(layer for layer in layers if layer.startswith(CLASS_HEADS))
    report = TransferReport(
        path=path,
        source=file.source,
        copied=tuple(layer for layer in layers if layer not in sampled_layers),
        sampled=sampled_layers,
        random=random,
        unused=(*(tower.keys[name] for name in tower.tensors if name not in state), *file.unused),
        classes=tuple(
            (mine, None if index is None else sources.names[index])
            for mine, index in zip(choice.class_names, sources.indices, strict=True)
        ),
        notes=notes,
        preprocessing=tower.preprocessing,
    )
    return Transfer(detector, values | head_values, report)


def _class_sources(path: Path, file: TrainedFile, choice: ClassChoice, count: int) -> _Sources:
    """Finds the source of each class.

    Args:
        path: Of the file, for messages.
        file: It may know the names of its classes.
        choice: My classes and their sources.
        count: Classes of the file's heads.

    Raises:
        ConfigError: If the names of the file's classes are needed and nobody tells them, or told twice.
    """
    stored, given, class_map = file.class_names, choice.source_classes, choice.class_map or {}
    if stored is not None and given is not None and source_names(given, count) != stored:
        raise ConfigError(
            f"init.source_classes: found {given}, but {path} was trained on {list(stored)}; leave init.source_classes "
            "null for a checkpoint"
        )
    if stored is None and given is None:
        if count != len(choice.class_names) or class_map:
            raise ConfigError(
                f"init.weights: {path} ({file.source}) has {count} classes, the network has {len(choice.class_names)} "
                f"({', '.join(choice.class_names)}). Say what the file's classes are with init.source_classes (voc, "
                "coco or a list of names), and which of them the network's start from with init.class_map, e.g. "
                f"init.source_classes=coco 'init.class_map={{{choice.class_names[0]}: potted plant}}'"
            )
        return _Sources(tuple(range(count)), tuple(f"the file's class {1 + index}" for index in range(count)))
    names = source_names(stored or given or (), count)
    return _Sources(match_classes(choice.class_names, names, class_map), names)


def _heads(
    values: Mapping[str, Tensor], state: Mapping[str, Tensor], trained: AnchorFacts, grid: AnchorGrid, sources: _Sources
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Heads with the network's anchors and classes, and what there is to say about the anchors.

    Args:
        values: Trained tensors, by the detector's names.
        state: The detector's own.
        trained: Anchors that the heads were trained with.
        grid: The detector's anchors.
        sources: Where its classes come from.
    """
    heads: dict[str, Tensor] = {}
    notes: list[str] = []
    for name, value in values.items():
        if not name.startswith((CLASS_HEADS, BOX_HEADS)):
            continue
        number = map_number(name)
        target = grid.cell_ratios[number]
        source = _trained_ratios(trained, number, target)
        order = anchor_order(source, target)
        if order is None:
            listed = [", ".join(f"{ratio:g}" for ratio in ratios) for ratios in (source, target)]
            notes.append(
                f"feature map {number}: aspect ratios {listed[0]} in the file, {listed[1]} here, taken in order"
            )
            order = list(range(len(target)))
        heads[name] = reordered(value, order)
        if name.startswith(CLASS_HEADS):
            heads[name] = sampled(heads[name], state[name], sources.indices, len(target))
    if trained.scales is not None and tuple(trained.scales) != tuple(grid.scales):
        notes.append(f"anchor scales {list(trained.scales)} in the file, {list(grid.scales)} here")
    return heads, tuple(dict.fromkeys(notes))


def _trained_ratios(trained: AnchorFacts, number: int, target: Sequence[float]) -> Sequence[float]:
    """Aspect ratios of a trained head's cell: as the file says, else as published, else as the network has them."""
    if trained.ratios is not None and number < len(trained.ratios):
        return trained.ratios[number]
    return PUBLISHED_RATIOS.get(len(target), target)
