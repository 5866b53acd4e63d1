"""Loading pretrained VGG16 weights into the backbone: all of them, or an error and an unchanged network."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crossview.data.errors import DataError
from crossview.detector.preprocessing import Preprocessing
from crossview.detector.weight_files import WeightsFile, read_weights_file, report_row

if TYPE_CHECKING:
    from crossview.detector.vgg import VGG16

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What a weights file gave to the backbone; ``str()`` is a short table.

    Attributes:
        path: The file.
        source: Name of its format.
        matched: Layers of the backbone that the file has, from the input on.
        missing: Tensors of the backbone that the file lacks; empty in every report that is returned.
        unused: Keys of the file that the backbone has no use for.
        preprocessing: Standardisation that belongs to these weights.
    """

    path: Path
    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    preprocessing: Preprocessing

    def __str__(self) -> str:
        """Returns one row each for matched, missing and unused, and one for the images the weights expect."""
        rows = [f"VGG16 weights, {self.source}: {self.path}"]
        counted = {"matched": self.matched, "missing": self.missing, "unused": self.unused}
        rows += [report_row(title, names) for title, names in counted.items()]
        return "\n".join([*rows, f"  images  {self.preprocessing}"])


def load_vgg_weights(backbone: VGG16, path: str | Path) -> LoadReport:
    """Loads pretrained weights and takes over the input standardisation that belongs to them.

    Nothing of the network changes unless every layer of it is found with the right shape.

    Args:
        backbone: The network; standardisation overrides given to its constructor stay in force.
        path: A file in one of the formats of :mod:`crossview.detector.weight_files`.

    Returns:
        The report, which is logged too.

    Raises:
        DataError: If the file is missing, unreadable or of no known format, or a layer is missing, has another shape or
            values that are not finite.
    """
    path = Path(path)
    parameters = {
        f"{layer}.{kind}": parameter
        for layer, module in backbone.convolutions().items()
        for kind, parameter in module.named_parameters()
    }
    weights_file = read_weights_file(path, {name: parameter.shape for name, parameter in parameters.items()})
    missing = tuple(name for name in parameters if name not in weights_file.tensors)
    report = LoadReport(
        path=path,
        source=weights_file.source,
        matched=tuple(
            layer for layer in backbone.convolutions() if not {f"{layer}.weight", f"{layer}.bias"} & set(missing)
        ),
        missing=missing,
        unused=weights_file.unused,
        preprocessing=weights_file.preprocessing,
    )
    _check_complete(report, weights_file, parameters)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights_file.tensors[name])
    backbone.use_preprocessing(weights_file.preprocessing)
    logger.info("%s", report)
    return report


def _check_complete(report: LoadReport, weights_file: WeightsFile, parameters: Mapping[str, Tensor]) -> None:
    """Raises DataError unless the file has every tensor of the network, in its shape and finite."""
    if report.missing:
        raise DataError(
            f"{report.path}: {len(report.missing)} of the backbone's {len(parameters)} tensors are not in the file; "
            f"expected all of them. Nothing was loaded.\n{report}"
        )
    for name, parameter in parameters.items():
        tensor = weights_file.tensors[name]
        if tensor.shape != parameter.shape:
            raise DataError(
                f"{report.path}: {name}: found shape {tuple(tensor.shape)} in the file ({report.source}), expected "
                f"{tuple(parameter.shape)}. Nothing was loaded. Is it VGG16, and has the backbone the same channels?"
            )
        if not tensor.isfinite().all():
            raise DataError(f"{report.path}: {name}: found NaN or infinity; nothing was loaded. Get the file anew")
