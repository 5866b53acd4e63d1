"""What the jobs of a sweep leave: ``job.json`` in the folder of each job, all of them together in ``sweep.csv``.

The jobs may run in processes or on machines of their own, so that the files are all that they share.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from io import StringIO
from pathlib import Path

from crossview.files import write_whole

JOB_FILE, TABLE_FILE = "job.json", "sweep.csv"


class Status(StrEnum):
    """How far a job got."""

    RUNNING = "running"
    OK = "ok"
    PRUNED = "pruned"  # ended early, since others were better by then
    FAILED = "failed"
    UNFINISHED = "unfinished"  # the sweep ended before the job did


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: in the sweep, from 0.
        sweep_dir: folder of the sweep.
        run_dir: folder of the job, below that of the sweep.
        overrides: settings by name, as they stood on the command line.
        monitor: name of the metric that the sweep optimises.
        mode: ``max`` or ``min``, what is best of it.
        started: seconds since 1970.
        status: how far it got.
        metric: best value of the monitored metric, None if it was never measured.
        metrics: further ones of its ``metrics.json`` by name, None where there was nothing to measure.
        seconds: that the job took.
        error: what went wrong, if it failed.
    """

    number: int
    sweep_dir: str
    run_dir: str
    overrides: dict[str, str]
    monitor: str
    mode: str
    started: float
    status: Status = Status.RUNNING
    metric: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float | None = None
    error: str | None = None


def split_overrides(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides as of Hydra's command line (``a.b=1``, ``+c=2``, ``~d``), by name."""
    parts = (override.lstrip("+").partition("=") for override in overrides)
    return {name: value for name, _, value in parts}


def write_job(job: Job) -> None:
    """Leaves a job in its run folder."""
    write_whole(Path(job.run_dir) / JOB_FILE, json.dumps(asdict(job), indent=2) + "\n", shared=True)


def read_job(run_dir: Path) -> Job | None:
    """The job that was left in a run folder; None if it is no job of a sweep."""
    try:
        values = json.loads((run_dir / JOB_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Job(**{**values, "status": Status(values["status"])})


def read_jobs(sweep_dir: Path) -> list[Job]:
    """All jobs of a sweep, in their order."""
    found = (read_job(path.parent) for path in sweep_dir.rglob(JOB_FILE))
    return sorted((job for job in found if job is not None), key=lambda job: job.number)


def close_jobs(sweep_dir: Path) -> list[Job]:
    """All jobs of a sweep that is over: one that still runs will not end any more."""
    jobs = read_jobs(sweep_dir)
    closed = [replace(job, status=Status.UNFINISHED) if job.status is Status.RUNNING else job for job in jobs]
    for job, before in zip(closed, jobs, strict=True):
        if job is not before:
            write_job(job)
    return closed


def write_table(sweep_dir: Path, jobs: Sequence[Job]) -> None:
    """Leaves ``sweep.csv``: one line for a job.

    Each setting that was given on the command line has a column, and each further metric that any job has.
    """
    names = list(dict.fromkeys(name for job in jobs for name in job.overrides))
    metrics = list(dict.fromkeys(name for job in jobs for name in job.metrics))
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["job", *names, "status", "metric", *metrics, "seconds", "run_dir", "error"])
    for job in jobs:
        settings = [job.overrides.get(name, "") for name in names]
        folder = Path(job.run_dir).relative_to(job.sweep_dir).as_posix()
        seconds = "" if job.seconds is None else f"{job.seconds:.1f}"
        numbers = ["" if value is None else repr(value) for value in (job.metric, *map(job.metrics.get, metrics))]
        first_line = (job.error or "").strip().partition("\n")[0]
        table.writerow([job.number, *settings, job.status.value, *numbers, seconds, folder, first_line])
    write_whole(sweep_dir / TABLE_FILE, text.getvalue(), shared=True)


class Pruned(Exception):  # noqa: N818  # the job did not go wrong
    """The job ended early, since other jobs were better after as many validations."""

    def __init__(self, reason: str, metric: float) -> None:
        """Takes the reason, in words, and the best value of the monitored metric so far."""
        super().__init__(reason, metric)  # both, so that the exception survives the way to another process
        self.reason = reason
        self.metric = metric
