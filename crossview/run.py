"""One training run: instantiate what the config names, fit, test the best checkpoint, leave the numbers."""

import json
import logging
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.callbacks import ModelCheckpoint

from crossview.base_module import DetectorModule
from crossview.build import ConfigError
from crossview.callbacks.finite import NonFiniteLossError
from crossview.console import quiet_libraries
from crossview.data.errors import DataError
from crossview.initial_weights import initialise

logger = logging.getLogger(__name__)

SHOWN_MISMATCHES = 4


class UserError(Exception):
    """What went wrong, in words for the person at the command line; the cause is attached."""


def train(config: DictConfig) -> float | None:
    """Trains and tests as ``config`` says; leaves checkpoints, logs, pictures and ``metrics.json`` in its ``run_dir``.

    Returns:
        The best value of the monitored metric, None if it was never measured (as in a ``fast_dev_run``).

    Raises:
        UserError: the config or the data cannot be used; says which key or file and what to do.
    """
    try:
        return _train(config, Path(config.run_dir))
    except DataError as error:
        # From a loader's process it comes with the traceback there in front.
        raise UserError(str(error).rpartition(f"{DataError.__module__}.{DataError.__name__}: ")[2].rstrip()) from error
    except (ConfigError, NonFiniteLossError, MisconfigurationException) as error:
        raise UserError(str(error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error)) from error


def _explain(error: HydraException | OmegaConfBaseException) -> str:
    """What went wrong while the config's objects were made, without repeating it for every level of the config."""
    cause = error.__cause__
    if cause is None:
        return str(error)
    if isinstance(cause, DataError | ConfigError):
        return str(cause)
    place = ", ".join(line.removesuffix(":") for line in str(error).splitlines() if line.startswith(("Error", "full")))
    return f"{cause}\n({place})"


def _train(config: DictConfig, run_dir: Path) -> float | None:
    quiet_libraries()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data: pl.LightningDataModule = instantiate(config.data, _convert_="all")
    module: DetectorModule = instantiate(config.model, _recursive_=False, _convert_="all")
    init: Any = OmegaConf.to_container(config.init, resolve=True)
    initialise(module, init, config.ckpt)
    if config.ckpt is not None:
        load_weights(module, Path(config.ckpt))
    callbacks = [instantiate(entry) for entry in config.callbacks.values() if entry is not None]
    loggers = [instantiate(entry) for entry in config.logger.values() if entry is not None]
    trainer: pl.Trainer = instantiate(
        config.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(run_dir)
    )

    trainer.fit(module, datamodule=data)
    best = _best_score(trainer)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if config.test:
        trainer.test(module, datamodule=data, ckpt_path=_best_checkpoint(trainer), weights_only=True)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    if trainer.is_global_zero:
        write_metrics(run_dir / "metrics.json", metrics)
        logger.info("Run folder: %s", run_dir)
    return best


def load_weights(module: DetectorModule, path: Path) -> None:
    """Puts the network weights of a checkpoint into ``module``.

    Raises:
        UserError: there is no such file, or it is not a checkpoint of this network.
    """
    if not path.is_file():
        raise UserError(f"ckpt: found no file {path}; expected a checkpoint such as RUN_FOLDER/checkpoints/best.ckpt")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except (RuntimeError, LookupError, TypeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"ckpt: {path} is not a checkpoint of a training run ({type(error).__name__}), or it is damaged; expected "
            "RUN_FOLDER/checkpoints/best.ckpt or last.ckpt. Pretrained VGG weights go to model.backbone.weights"
        ) from error
    try:
        module.load_state_dict(state)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        lines = str(error).splitlines()
        more = [f"\t... and {len(lines) - 1 - SHOWN_MISMATCHES} more"] if len(lines) > 1 + SHOWN_MISMATCHES else []
        raise UserError(
            "\n".join([f"ckpt: {path} does not fit this network: {lines[0]}", *lines[1 : 1 + SHOWN_MISMATCHES], *more])
        ) from error
    module.random_start = False


def _best_checkpoint(trainer: pl.Trainer) -> str | None:
    """The checkpoint to test; None for the weights as they are."""
    checkpoint = trainer.checkpoint_callback
    if not isinstance(checkpoint, ModelCheckpoint) or not checkpoint.best_model_path:
        return None
    if _best_score(trainer) is None:
        logger.warning(
            "%s was never a number, so no checkpoint is the best: the last weights are tested. "
            "Without objects seen in both views, use monitor=val/detection/ap50",
            checkpoint.monitor,
        )
        return None
    return checkpoint.best_model_path


def _best_score(trainer: pl.Trainer) -> float | None:
    """The best value of the monitored metric, None if it was never a number (Lightning ranks NaN as infinitely bad)."""
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return None if score is None or not math.isfinite(score) else float(score)


def write_metrics(path: Path, metrics: Mapping[str, float]) -> None:
    """Writes a flat JSON file of metrics, whole or not at all; a metric that does not exist is null."""
    plain: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in sorted(metrics.items())}
    scratch = path.with_suffix(".json.part")
    scratch.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)
