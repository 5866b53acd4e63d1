"""One run of a command: instantiate what the config names, train or evaluate, leave the numbers."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint

from crossview.base_module import DetectorModule
from crossview.callbacks.checkpoints import LastCheckpoint
from crossview.checkpoints import load_weights
from crossview.console import quiet_libraries
from crossview.data.datamodule import SampleDataModule
from crossview.dual.matching import PairMatcher
from crossview.evaluation import steps as evaluation
from crossview.evaluation.collect import CollectScenes
from crossview.files import try_writing
from crossview.initial_weights import initialise
from crossview.launch import check_devices, last_checkpoint
from crossview.memory import keep_freed_memory
from crossview.metrics_file import write_metrics
from crossview.processes import Processes, end_with_parent
from crossview.resume import check_new, resumable, resumed
from crossview.signals import watch
from crossview.user_errors import UserError, explained

logger = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Trains and tests as ``config`` says; leaves checkpoints, logs, pictures and ``metrics.json`` in its ``run_dir``.

    Returns:
        The best value of the monitored metric, None if it was never measured (as in a ``fast_dev_run``).

    Raises:
        UserError: the config or the data cannot be used; says which key or file and what to do.
    """
    end_with_parent()
    with explained(), watch.watching(), resumable(Path(config.resume or config.run_dir)):
        if config.resume is None:
            check_new(Path(config.run_dir))
        else:
            config = resumed(config)
        return _train(config, _run_folder(config))


def _train(config: DictConfig, run_dir: Path) -> float | None:
    quiet_libraries()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data: SampleDataModule[Any] = instantiate(config.data, _convert_="all")
    data.test_follows = config.test
    module: DetectorModule = instantiate(config.model, _recursive_=False, _convert_="all")
    matcher: PairMatcher = instantiate(config.matcher)
    init: Any = OmegaConf.to_container(config.init, resolve=True)
    initialise(module, init, config.ckpt)
    if config.ckpt is not None:
        load_weights(module, Path(config.ckpt))
    if module.random_start and config.resume is None:
        logger.info("No weights given: %s starts at random.", type(module.detectors()[0].backbone).__name__)
    processes, tested = Processes(), CollectScenes()
    callbacks = [processes, tested, *(instantiate(entry) for entry in config.callbacks.values() if entry is not None)]
    loggers = [instantiate(entry) for entry in config.logger.values() if entry is not None]
    trainer: pl.Trainer = instantiate(
        config.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(run_dir)
    )
    check_devices(trainer.num_devices, trainer.num_nodes)
    if config.trainer.get("sync_batchnorm", False):
        module.check_norms()
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    with processes.ending_together(trainer):
        best, metrics = _fit_and_test(trainer, module, data, config, run_dir)
        processes.nothing_follows()
        if trainer.is_global_zero:
            write_metrics(run_dir, metrics)
            if config.test:
                metrics |= evaluation.score_test(tested.scenes, matcher)
                write_metrics(run_dir, metrics)
            _tell({name: value for name, value in metrics.items() if name.startswith("test/")})
            logger.info("Run folder: %s", run_dir)
    return best


def _fit_and_test(
    trainer: pl.Trainer,
    module: DetectorModule,
    data: SampleDataModule[Any],
    config: DictConfig,
    run_dir: Path,
) -> tuple[float | None, dict[str, float]]:
    """The best value of the monitored metric, and all metrics of the network by itself."""
    state = None if config.resume is None else str(last_checkpoint(run_dir))
    trainer.fit(module, datamodule=data, ckpt_path=state, weights_only=True)
    best = _best_score(trainer)
    metrics = _metrics_before(trainer) | {name: float(value) for name, value in trainer.callback_metrics.items()}
    if config.test:
        trainer.test(module, datamodule=data, ckpt_path=_best_checkpoint(trainer), verbose=False, weights_only=True)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    return best, metrics


def evaluate(config: DictConfig) -> dict[str, float]:
    """Evaluates a checkpoint, or predictions, as ``config`` says.

    Leaves ``metrics.json``, ``predictions.parquet`` and ``report.html`` in its ``run_dir``, and ``objects.geojson`` of
    the network's detections in pairs.

    Returns:
        The metrics, with the split as the prefix of their names.

    Raises:
        UserError: the checkpoint, the config or the data cannot be used; says which key or file and what to do.
    """
    end_with_parent()
    with explained():
        return _evaluate(config, _run_folder(config))


def _evaluate(config: DictConfig, run_dir: Path) -> dict[str, float]:
    quiet_libraries()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    metrics = evaluation.evaluate(config, run_dir)
    if metrics:
        write_metrics(run_dir, metrics)
        _tell(metrics)
        logger.info("Run folder: %s", run_dir)
    return metrics


def _run_folder(config: DictConfig) -> Path:
    """The folder of a run, which is made where it is not there: what stands in the way is said before the work.

    Raises:
        UserError: nothing can be written there.
    """
    folder = Path(config.run_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try_writing(folder)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"run_dir: {folder} cannot be made or written to ({reason}); give another one") from error
    return folder


def _tell(metrics: Mapping[str, float]) -> None:
    for name, value in sorted(metrics.items()):
        logger.info("%-28s %.4f", name, value)


def _metrics_before(trainer: pl.Trainer) -> dict[str, float]:
    """The metrics of a run that may have been trained in part by an earlier process."""
    return next((each.metrics for each in trainer.checkpoint_callbacks if isinstance(each, LastCheckpoint)), {})


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
