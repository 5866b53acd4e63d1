"""Reader of own checkpoints, of the dual network and of the single-view one.

Convention:
    In the state dict of a module, ``net.detector.*`` is the detector of view 1 or of both views, ``net.detector_2.*``
    that of view 2 if it has one, and every other ``net.<part>.*`` a part beside the detectors. The hyper-parameters say
    which classes and anchors the heads were trained with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crossview.data.errors import DataError
from crossview.detector.anchors import AnchorGrid
from crossview.detector.preprocessing import Preprocessing
from crossview.detector.transfer.files import AnchorFacts, Tower, TrainedFile

NETWORK = "net."
TOWERS = ("detector.", "detector_2.")


def is_checkpoint(content: Mapping[Any, Any]) -> bool:
    """Whether a loaded file is a checkpoint of one of our modules."""
    state = content.get("state_dict")
    return isinstance(state, dict) and any(str(key).startswith(NETWORK + TOWERS[0]) for key in state)


def trained_file(path: Path, content: Mapping[Any, Any]) -> TrainedFile:
    """Sorts the tensors of a checkpoint by the part of the network that they belong to.

    Args:
        path: For messages.
        content: What the file holds.

    Raises:
        DataError: If the hyper-parameters cannot be those of one of our modules.
    """
    state = {str(key): value for key, value in content["state_dict"].items() if isinstance(value, Tensor)}
    of_towers = tuple(NETWORK + prefix for prefix in TOWERS)
    parts = {key: value for key, value in state.items() if key.startswith(NETWORK) and not key.startswith(of_towers)}
    settings = content.get("hyper_parameters") or {}
    try:
        towers = [_tower(state, prefix) for prefix in of_towers]
        names = settings.get("class_names")
        return TrainedFile(
            source="crossview checkpoint",
            towers=tuple(tower for tower in towers if tower.tensors),
            unused=tuple(key for key in state if not key.startswith(NETWORK)),
            class_names=None if names is None else tuple(map(str, names)),
            anchors=_anchors(settings),
            parts=parts,
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: cannot be read as a checkpoint ({error}); expected class_names and anchors among its "
            "hyper_parameters, as a training run saves them. Is the file damaged?"
        ) from error


def _tower(state: Mapping[str, Tensor], prefix: str) -> Tower:
    """The detector under a prefix; its backbone's extra state, if any, is the standardisation of the images."""
    keys = {key.removeprefix(prefix): key for key in state if key.startswith(prefix)}
    stored = keys.pop("backbone._extra_state", None)
    preprocessing = None if stored is None else Preprocessing.from_tensor(torch.as_tensor(state[stored]))
    return Tower({name: state[key] for name, key in keys.items()}, keys, preprocessing)


def _anchors(settings: Mapping[str, Any]) -> AnchorFacts:
    """What the hyper-parameters tell about the anchors."""
    variances = settings.get("variances")
    if settings.get("anchors") is None:
        return AnchorFacts(variances=variances)
    arguments = {name: value for name, value in settings["anchors"].items() if name != "_target_"}
    grid = AnchorGrid(**arguments)
    return AnchorFacts(grid.cell_ratios, grid.scales, variances)
