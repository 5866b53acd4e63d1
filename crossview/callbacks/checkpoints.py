"""The checkpoints of a run: the best one, and the last one from which it can go on at any time."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from crossview.build import ConfigError
from crossview.data.loader import TrainLoader
from crossview.random_state import random_state, set_random_state
from crossview.signals import Stopped, watch

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, whose state names files without their folder: a run folder may have moved before it goes on."""

    def state_dict(self) -> dict[str, Any]:
        """The state, with the names of the files."""
        state = super().state_dict()
        named = {key: os.path.basename(state[key]) for key in _PATHS}  # noqa: PTH119  # "" is no file, and stays so
        best = {Path(path).name: score for path, score in state["best_k_models"].items()}
        return {**state, **named, "best_k_models": best, "dirpath": None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state, for files in the folder of now."""
        folder = Path(self.dirpath or "")
        placed = {key: str(folder / state_dict[key]) if state_dict[key] else "" for key in _PATHS}
        best = {str(folder / name): score for name, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **placed, "best_k_models": best, "dirpath": self.dirpath})


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt`` such that a run goes on from it as if it had never ended, and ends it when a signal asks.

    Written every ``every_n_steps`` optimizer steps, before and after every validation, at the end of every epoch, and
    when a signal came. Lightning restores optimizer, schedule, epoch, step, and the states of the other callbacks; this
    adds the random numbers, the metrics so far, and what Lightning would get wrong:

    * A state of the moment before a validation makes it skip the validation. It is marked as one inside the
      validation with no batch done, which Lightning takes up at its beginning.
    * The place in the epoch gets lost where the length of the run was asked for before, as schedules do.
    * With ``max_steps``, an epoch that is over is counted twice, and the next one left out.
    * Early stopping is forgotten, and a schedule of a fixed length fails at its end.

    Within accumulated gradients nothing is saved: they belong to no checkpoint.
    """

    def __init__(self, dirpath: str, every_n_steps: int | None = 100) -> None:
        """Takes the settings.

        Args:
            dirpath: folder of ``last.ckpt``.
            every_n_steps: optimizer steps; None: only around validations.

        Raises:
            ValueError: the number is not positive.
        """
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"callbacks.last.every_n_steps is {every_n_steps}; expected 1 or more, or null")
        self.path = Path(dirpath) / "last.ckpt"
        self.metrics: dict[str, float] = {}
        self._every_n_steps = every_n_steps
        self._validation_is_due = False
        self._log_step = 0
        self._stop = 0  # the signal that all processes stop for
        self._unflushed = False
        self._place: list[dict[str, int]] = []
        self._restored: Mapping[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """What Lightning does not keep by itself."""
        return {
            "random": random_state(),
            "metrics": self.metrics,
            "validation_is_due": self._validation_is_due,
            "log_step": self._log_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the metrics; the random numbers are set when everything else is ready."""
        self.metrics = dict(state_dict["metrics"])
        self._validation_is_due = state_dict["validation_is_due"]
        self._restored = state_dict

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes over the place in the epoch, see the class."""
        self._place = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Marks a validation that is due, see the class."""
        if self._validation_is_due:
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            progress.update(total=dict(begun), current=dict(begun), is_last_batch=False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restores the random numbers, and asks for the signals from now on.

        Raises:
            ConfigError: the run is longer now than its schedule of the learning rate.
        """
        if self._restored is not None:
            _check_schedules(trainer)
            _finish_epoch(trainer)
            callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
            stopping = (each for each in callbacks if isinstance(each, EarlyStopping))
            # In the first epoch it leaves stopped_epoch at 0.
            stopped = (each.stopped_epoch > 0 or each.wait_count >= each.patience for each in stopping)
            trainer.should_stop = trainer.should_stop or any(stopped)
            if isinstance(trainer.train_dataloader, TrainLoader):
                trainer.train_dataloader.load_state_dict(self._place[0])
            set_random_state(self._restored["random"])
            self._restored = None
        watch.defer()

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401  # whatever the data module hands out
        batch_idx: int,
    ) -> None:
        """Ends the run if it was saved for that; only now the metrics of the batch before are logged.

        Raises:
            Stopped: a signal came.
        """
        if self._stop:
            raise Stopped(self._stop)
        if self._unflushed:
            self._flush(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401  # Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Saves when it is time to, unless a validation or the end of the epoch, which save too, come at once."""
        stop = self._agreed(trainer)
        loop = trainer.fit_loop.epoch_loop
        assert trainer.fit_loop._data_fetcher is not None
        saves_soon = loop.batch_progress.is_last_batch or loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
        if loop._should_accumulate() or saves_soon:
            return
        if stop or (self._every_n_steps is not None and trainer.global_step % self._every_n_steps == 0):
            self._save(trainer)
            self._stop = stop

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the work so far: a validation may take long."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            if self._validation_is_due:  # of the run before: Lightning would count its mark as a batch
                trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset()
            self._validation_is_due = True
            self._save(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401  # Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ends the run within a validation; it is done anew when the run goes on.

        Raises:
            Stopped: a signal came.
        """
        # The processes may have different numbers of batches here, so that they cannot ask each other; nor need they,
        # as there is nothing to save, and those that got no signal are ended by the first one.
        if watch.requested and self._validation_is_due:
            raise Stopped(watch.requested)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves after a validation in the middle of an epoch; that at its end comes before the end of the epoch."""
        if self._validation_is_due:
            self._validation_is_due = False
            if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
                self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves.

        Raises:
            Stopped: a signal came.
        """
        self._save(trainer, epoch_is_over=True)
        if stop := self._agreed(trainer):
            raise Stopped(stop)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From now on there is nothing to save.

        Raises:
            Stopped: a signal came.
        """
        watch.undefer()

    def _agreed(self, trainer: pl.Trainer) -> int:
        """The signal that any of the processes received, 0 for none; all have to ask."""
        if trainer.world_size == 1:
            return watch.requested
        own = torch.tensor(
            float(watch.requested), device=trainer.strategy.root_device
        )  # Lightning reduces tensors only
        return int(trainer.strategy.reduce(own, reduce_op="max"))

    def _save(self, trainer: pl.Trainer, epoch_is_over: bool = False) -> None:
        if getattr(trainer, "fast_dev_run", False):
            return
        self._log_step = trainer.fit_loop.epoch_loop._batches_that_stepped - epoch_is_over  # counted on by then
        self.metrics |= {name: _number(value) for name, value in trainer.callback_metrics.items()}
        self._flush(trainer)
        trainer.save_checkpoint(self.path, weights_only=False)
        self._unflushed = True

    def _flush(self, trainer: pl.Trainer) -> None:
        """Brings the log up to the checkpoint; the metrics of its own batch are logged after it."""
        for logger in trainer.loggers:
            logger.save()
        self._unflushed = False


def _number(value: Tensor | float) -> float:
    return float(value)


def _finish_epoch(trainer: pl.Trainer) -> None:
    """Makes a finished epoch one that needs no restart."""
    loop = trainer.fit_loop
    if loop.restarted_on_epoch_end:
        loop.epoch_progress.increment_completed()
        loop.reset_restart_stage()
        for each in (loop, loop.epoch_loop, loop.epoch_loop.val_loop):
            each._restarting = False  # the setter of the property does not let go with `max_steps`


def _check_schedules(trainer: pl.Trainer) -> None:
    """Refuses to go beyond the end of a schedule.

    Raises:
        ConfigError: says so.
    """
    for config in trainer.lr_scheduler_configs:
        made_for, wanted = getattr(config.scheduler, "total_steps", None), trainer.estimated_stepping_batches
        if made_for is not None and wanted > made_for:
            raise ConfigError(
                f"resume: the learning rate of this run was planned for at most {made_for} steps, now it shall be "
                f"{wanted}. Resume without trainer.max_epochs and trainer.max_steps, or start a new run from its "
                "weights with ckpt=RUN_FOLDER/checkpoints/last.ckpt"
            )
