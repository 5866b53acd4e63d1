"""Checkpoints of earlier runs: weights for a network that exists, or the whole module as it was trained."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from crossview.base_module import DetectorModule
from crossview.module import CrossViewModule
from crossview.single_module import SingleViewModule
from crossview.user_errors import UserError

SHOWN_MISMATCHES = 4


def read_checkpoint(path: Path, key: str = "ckpt") -> dict[str, Any]:
    """The content of a checkpoint: plain data, nothing in the file is executed.

    Args:
        path: of the file.
        key: of the config that named it, for what is said.

    Raises:
        UserError: there is no such file, or it is not a checkpoint of a training run.
    """
    if not path.is_file():
        raise UserError(f"{key}: found no file {path}; expected a checkpoint such as RUN_FOLDER/checkpoints/best.ckpt")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        _ = content["state_dict"]
    except (RuntimeError, LookupError, TypeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{key}: {path} is not a checkpoint of a training run ({type(error).__name__}), or it is damaged; expected "
            "RUN_FOLDER/checkpoints/best.ckpt or last.ckpt. Pretrained VGG weights go to model.backbone.weights, other "
            "trained networks to init.weights"
        ) from error
    return content


def load_weights(module: DetectorModule, path: Path) -> None:
    """Puts the network weights of a checkpoint into ``module``, which has exactly that network.

    Raises:
        UserError: there is no such file, or it is not a checkpoint of this network.
    """
    content = read_checkpoint(path)
    try:
        module.load_state_dict(content["state_dict"])
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        lines = str(error).splitlines()
        more = [f"\t... and {len(lines) - 1 - SHOWN_MISMATCHES} more"] if len(lines) > 1 + SHOWN_MISMATCHES else []
        shown = [f"ckpt: {path} does not fit this network: {lines[0]}", *lines[1 : 1 + SHOWN_MISMATCHES], *more]
        raise UserError("\n".join([*shown, "init.weights takes what fits and says what it leaves out"])) from error
    _check_boxes(module, content.get("hyper_parameters"), path)
    module.random_start = False


def _check_boxes(module: DetectorModule, settings: object, path: Path) -> None:
    """Raises a UserError where a checkpoint's settings, if it has any, give offsets another meaning than here."""
    if not isinstance(settings, Mapping):
        return
    theirs, ours = _box_settings(settings), _box_settings(module.hparams)
    other = [
        f"    {key}: found {theirs[key]} there and {ours.get(key)} here"
        for key in theirs
        if theirs[key] != ours.get(key)
    ]
    if other:
        raise UserError(
            "\n".join([f"ckpt: {path} was trained with other default boxes:", *other])
            + "\nSet them as they were then (model/anchors=... or model.anchors....), or start from the weights alone "
            "with init.weights"
        )


def _box_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights do not tell of default boxes and of the offsets from them."""
    anchors = {f"model.anchors.{name}": value for name, value in dict(settings.get("anchors") or {}).items()}
    return anchors | {f"model.{name}": settings[name] for name in ("variances",) if name in settings}


def load_module(path: Path) -> DetectorModule:
    """The module that a checkpoint was saved from, with its settings and weights.

    Raises:
        UserError: there is no such file, or it is not a checkpoint of a training run.
    """
    content = read_checkpoint(path)
    if not isinstance(content.get("hyper_parameters"), Mapping):
        raise UserError(f"ckpt: {path} has no hyper_parameters, so nobody knows what network it is of")
    # What tells the tasks apart: only the dual network has a projection.
    task = CrossViewModule if "projection" in content["hyper_parameters"] else SingleViewModule
    try:
        module: DetectorModule = task(**content["hyper_parameters"])
    except TypeError as error:
        raise UserError(
            f"ckpt: {path} was saved by another version of this package: {error}. Train again, or start from its "
            "weights with init.weights"
        ) from error
    load_weights(module, path)
    return module
