"""Ends a job of a sweep early when the other jobs were better after as many validations (median rule).

The released Optuna sweeper of Hydra hands a job its settings but not its trial, so that Optuna's own pruners cannot be
asked. The jobs are compared by what each leaves in its run folder; that works with every sweeper and launcher.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl

from crossview.files import write_whole
from crossview.sweeps.jobs import Pruned, read_job, read_jobs

HISTORY_FILE = "validations.json"


class MedianPruning(pl.Callback):
    """Stops a job whose best value so far is worse than the median of the others' best after as many validations.

    A run that is no job of a sweep is left alone, and so is a job whose metric was not yet a number.

    Source: the median stopping rule of Golovin et al., "Google Vizier", KDD 2017, with best values instead of means.
    """

    def __init__(
        self, run_dir: str, monitor: str, mode: str = "max", min_jobs: int = 4, min_validations: int = 2
    ) -> None:
        """Takes the settings.

        Args:
            run_dir: folder of the run.
            monitor: name of the metric.
            mode: ``max`` or ``min``, what is best.
            min_jobs: other jobs that must have got as far before any is stopped, at least 1.
            min_validations: validations before a job is stopped, at least 1.

        Raises:
            ValueError: a setting is not among those possible.
        """
        if mode not in ("max", "min"):
            raise ValueError(f"mode: found {mode!r}, expected max or min")
        if min_jobs < 1 or min_validations < 1:
            raise ValueError(
                f"min_jobs and min_validations: found {min_jobs} and {min_validations}, expected 1 or more"
            )
        self.run_dir = Path(run_dir)
        self.monitor = monitor
        self.sign = 1.0 if mode == "max" else -1.0
        self.min_jobs = min_jobs
        self.min_validations = min_validations
        self._best: list[float | None] = []

    def state_dict(self) -> dict[str, Any]:
        """The best values so far, for a run that goes on."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up again."""
        self._best = list(state_dict["best"])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the best value so far for the other jobs, and compares.

        Raises:
            Pruned: the job is worse than the median of the others.
        """
        job = None if trainer.sanity_checking else read_job(self.run_dir)
        if job is None:
            return
        self._best.append(self._better(self._best[-1:], trainer.callback_metrics.get(self.monitor)))
        write_whole(self.run_dir / HISTORY_FILE, json.dumps(self._best) + "\n", shared=True)
        count, best = len(self._best), self._best[-1]
        others = [Path(other.run_dir) for other in read_jobs(Path(job.sweep_dir)) if other.number != job.number]
        rivals = [value for folder in others if (value := _best_after(folder, count)) is not None]
        if best is None or count < self.min_validations or len(rivals) < self.min_jobs:
            return
        bar = median(rivals)
        if self.sign * best < self.sign * bar:
            raise Pruned(
                f"{self.monitor} is {best:.4f} at best after {count} validations, "
                f"the median of {len(rivals)} other jobs {bar:.4f}",
                best,
            )

    def _better(self, before: Sequence[float | None], value: object) -> float | None:
        """The best of the numbers among the last best value, if any, and a new value."""
        found = [number for number in before if number is not None]
        if value is not None and math.isfinite(number := float(value)):  # type: ignore[arg-type]  # a tensor of one number
            found.append(number)
        return max(found, key=lambda number: self.sign * number, default=None)


def _best_after(run_dir: Path, count: int) -> float | None:
    """Best value of a job after ``count`` validations; None if it did not get that far or has none."""
    try:
        best: list[float | None] = json.loads((run_dir / HISTORY_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return best[count - 1] if len(best) >= count else None
