"""What Hydra calls around the jobs of a sweep: each leaves a record, all together a table and a picture.

A job that fails leaves its error and ends like any other, so that every sweeper and launcher goes on; that it happened
is the exit code's to say. A job hands its result to the sweeper as a number, a failed one hands over None: Optuna's
sweeper marks that trial as failed (released versions break on NaN).
"""

import atexit
import contextlib
import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from crossview.metrics_file import read_metrics
from crossview.sweeps.devices import refusal
from crossview.sweeps.jobs import (
    JOB_FILE,
    TABLE_FILE,
    Job,
    Pruned,
    Status,
    close_jobs,
    read_job,
    read_jobs,
    split_overrides,
    write_job,
    write_table,
)


class SweepReport(Callback):
    """Leaves ``job.json`` in the folder of every job, ``sweep.csv`` and ``sweep.png`` in that of the sweep.

    A single run is left alone.
    """

    def __init__(self, metrics: Sequence[str] = ()) -> None:
        """Takes the names of the metrics that the table has besides the monitored one."""
        self.metrics = list(metrics)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # Hydra's signature
        """Refuses what cannot be swept, before any job.

        Raises:
            SystemExit: a job would start further processes, the folder has the jobs of an earlier sweep, or a package
                is not installed; says what to do.
        """
        sweep_dir = _sweep_dir(config)
        if (reason := refusal(config.trainer)) is not None:
            raise SystemExit(reason)
        package = str(config.hydra.sweeper._target_).rpartition(".")[0].split(".")
        if package[0] == "hydra_plugins" and importlib.util.find_spec(".".join(package[:2])) is None:
            raise SystemExit(
                f"hydra/sweeper: {package[1]} is not installed; `make setup` installs it, or pip install -e '.[sweep]' "
                "in the repository"
            )
        if next(sweep_dir.rglob(JOB_FILE), None) is not None:
            raise SystemExit(
                f"hydra.sweep.dir: {sweep_dir} has the jobs of an earlier sweep, expected a new folder; "
                "an Optuna study goes on with hydra.sweeper.storage, see docs/sweeps.md"
            )
        sweep_dir.mkdir(parents=True, exist_ok=True)  # Optuna's study is made in there before the first job
        atexit.register(_report, sweep_dir)  # what is there is reported also when the sweep is broken off

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Leaves the record of a job that runs."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        job = Job(
            number=config.hydra.job.num,
            sweep_dir=str(_sweep_dir(config)),
            run_dir=config.hydra.runtime.output_dir,
            overrides=split_overrides(config.hydra.overrides.task),
            monitor=config.monitor,
            mode=config.monitor_mode,
            started=time.time(),
        )
        write_job(job)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Completes the record and brings ``sweep.csv`` up to date; a failure ends here."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        job = read_job(Path(config.hydra.runtime.output_dir))
        if job is None:
            raise FileNotFoundError(f"{config.hydra.runtime.output_dir}/{JOB_FILE} was removed during the job")
        metrics = read_metrics(Path(job.run_dir), self.metrics)
        job = replace(_outcome(job, job_return), metrics=metrics, seconds=time.time() - job.started)
        write_job(job)
        write_table(Path(job.sweep_dir), read_jobs(Path(job.sweep_dir)))
        # Only now: Hydra hides the errors of callbacks, and a failure that is nowhere written down ends the sweep.
        job_return.status = JobStatus.COMPLETED
        job_return.return_value = job.metric

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Leaves table and picture.

        Raises:
            SystemExit: a job failed; the exit code is 1.
        """
        atexit.unregister(_report)
        sweep_dir = _sweep_dir(config)
        jobs = _report(sweep_dir)
        failed = [job for job in jobs if job.status in (Status.FAILED, Status.UNFINISHED)]
        if failed:
            raise SystemExit(f"{len(failed)} of {len(jobs)} jobs failed, see {sweep_dir / TABLE_FILE}")


def _sweep_dir(config: DictConfig) -> Path:
    # As Hydra names the jobs' folders: without "..".
    return Path(os.path.abspath(Path(config.hydra.runtime.cwd) / str(config.hydra.sweep.dir)))  # noqa: PTH100


def _outcome(job: Job, job_return: JobReturn) -> Job:
    """The job as it ended; says on the console what went wrong."""
    try:
        metric = job_return.return_value
    except Pruned as pruned:
        print(f"Job {job.number} ends early: {pruned.reason}")
        return replace(job, status=Status.PRUNED, metric=pruned.metric)
    except Exception as error:
        from crossview.user_errors import UserError  # heavy, and loaded by the job already

        expected = isinstance(error, UserError) and "HYDRA_FULL_ERROR" not in os.environ
        print(f"\n{error}" if expected else "".join(traceback.format_exception(error)), file=sys.stderr)
        return replace(job, status=Status.FAILED, error=str(error).strip() or type(error).__name__)
    return replace(job, status=Status.OK, metric=metric)


def _report(sweep_dir: Path) -> Sequence[Job]:
    """Leaves table and picture of a sweep that is over, says where, and returns its jobs."""
    jobs = close_jobs(sweep_dir)
    if not jobs:
        with contextlib.suppress(OSError):  # keeps whatever else is in there
            sweep_dir.rmdir()
        return jobs
    from crossview.sweeps.picture import PICTURE_FILE, draw_sweep  # waits until there is something to draw

    write_table(sweep_dir, jobs)
    draw_sweep(sweep_dir / PICTURE_FILE, jobs)
    print(f"Sweep folder: {sweep_dir}")
    return jobs
