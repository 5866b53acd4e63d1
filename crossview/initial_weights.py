"""The start of a network from trained weights, whatever network they were trained in: ``init`` in the config.

The detectors take what `crossview.detector.transfer` makes of the file. A file with one detector serves both views of a
network with two; of a file with two, each view takes its own, and a network with one takes that of view 1. Parts beside
the detectors (the projection head) are copied where the file has them.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crossview.base_module import DetectorModule
from crossview.build import ConfigError
from crossview.data.errors import DataError
from crossview.detector.ssd import SSD
from crossview.detector.transfer.checkpoints import NETWORK
from crossview.detector.transfer.files import TrainedFile
from crossview.detector.transfer.load import ClassChoice, plan_transfer
from crossview.detector.transfer.readers import read_trained_file
from crossview.detector.transfer.report import TransferReport

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkReport:
    """What a file gave to a network; ``str()`` is a short table.

    Attributes:
        detectors: A report for each detector of the network.
        towers: How many detectors the file has.
        copied_parts: Parts beside the detectors that are as in the file.
        untouched_parts: Parts that the file does not have.
    """

    detectors: tuple[TransferReport, ...]
    towers: int
    copied_parts: tuple[str, ...]
    untouched_parts: tuple[str, ...]

    def __str__(self) -> str:
        """Returns the table of the first detector, and a row for what is beside it."""
        rows = [str(self.detectors[0])]
        if len(self.detectors) == 2:
            rows.append(f"  views   {'each its own detector' if self.towers == 2 else 'the same detector for both'}")
        rows += [f"  {part}  copied" for part in self.copied_parts]
        rows += [f"  {part}  not in the file, left as it starts" for part in self.untouched_parts]
        return "\n".join(rows)


def initialise(module: DetectorModule, settings: Mapping[str, Any], ckpt: str | None) -> None:
    """Starts a module as the config's ``init`` says, which may say nothing.

    Args:
        module: Its network is changed; it counts as trained from then on and is not calibrated.
        settings: ``weights``, ``source_classes`` and ``class_map``.
        ckpt: Of the config; not together with ``init.weights``.

    Raises:
        ConfigError: If the settings contradict each other or the classes cannot be matched.
        DataError: If the file cannot be used for this network.
    """
    path, source_classes, class_map = (settings[key] for key in ("weights", "source_classes", "class_map"))
    if path is None:
        for key, value in (("source_classes", source_classes), ("class_map", class_map)):
            if value:
                raise ConfigError(
                    f"init.{key}: found {value}, but init.weights is null; set it to the file to start from"
                )
        return
    if ckpt is not None:
        raise ConfigError(
            f"init.weights and ckpt: found {path} and {ckpt}, expected one of them: ckpt for a checkpoint of exactly "
            "this network, init.weights for everything else"
        )
    if class_map is not None and not isinstance(class_map, Mapping):
        raise ConfigError(f"init.class_map: found {class_map!r}, expected a map such as {{tree: potted plant}}")
    choice = ClassChoice(module.hparams["class_names"], source_classes, class_map)
    load_network_weights(module.net, Path(path), choice)
    module.random_start = False


def load_network_weights(network: nn.Module, path: Path, choice: ClassChoice) -> NetworkReport:
    """Loads trained weights into all detectors of a network and the parts beside them.

    Nothing changes unless everything that is found fits.

    Args:
        network: Has the detectors and other parts as its children.
        path: A file in one of the formats of `crossview.detector.transfer.readers`.
        choice: Classes of the network and their sources.

    Returns:
        The report, which is logged too.

    Raises:
        DataError: If the file cannot be used for this network.
        ConfigError: If the classes cannot be matched.
    """
    file = read_trained_file(path)
    children = dict(network.named_children())
    detectors = [child for child in children.values() if isinstance(child, SSD)]
    transfers = [plan_transfer(detector, path, file, choice, view) for view, detector in enumerate(detectors)]
    parts = {
        name: _check_part(path, file, name, child) for name, child in children.items() if not isinstance(child, SSD)
    }
    for transfer in transfers:
        transfer.apply()
    with torch.no_grad():
        for name, values in parts.items():
            state = children[name].state_dict()
            for key, value in values.items():
                state[key].copy_(value)
    used = {f"{NETWORK}{name}.{key}" for name, values in parts.items() for key in values}
    beside = file.unused_beside(len(detectors), used)
    report = NetworkReport(
        detectors=tuple(replace(transfer.report, unused=transfer.report.unused + beside) for transfer in transfers),
        towers=len(file.towers),
        copied_parts=tuple(name for name, values in parts.items() if values),
        untouched_parts=tuple(name for name, values in parts.items() if not values),
    )
    logger.info("%s", report)
    return report


def _check_part(path: Path, file: TrainedFile, name: str, part: nn.Module) -> dict[str, Tensor]:
    """Tensors of the file for a part beside the detectors; none if the file does not have it.

    Raises:
        DataError: If it has another shape there, or lacks a tensor.
    """
    prefix = f"{NETWORK}{name}."
    found = {key.removeprefix(prefix): value for key, value in file.parts.items() if key.startswith(prefix)}
    expected = part.state_dict()
    if found and {key: value.shape for key, value in found.items()} != {key: v.shape for key, v in expected.items()}:
        listed = [
            ", ".join(f"{key} {tuple(value.shape)}" for key, value in sorted(tensors.items()))
            for tensors in (found, expected)
        ]
        raise DataError(
            f"{path}: {name}: found {listed[0]}; expected {listed[1]}. Nothing was loaded. Set model.{name} as in "
            "the file's training"
        )
    return found
