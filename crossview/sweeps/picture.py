"""The results of a sweep as a picture: the metric of every job, and against every setting that varies."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from crossview.sweeps.jobs import Job, Status

PICTURE_FILE = "sweep.png"
COLORS = {
    Status.OK: "tab:blue",
    Status.PRUNED: "tab:orange",
    Status.FAILED: "tab:red",
    Status.UNFINISHED: "tab:gray",
    Status.RUNNING: "tab:gray",
}
PANEL_INCHES = (4.2, 3.4)
COLUMNS = 3
FEW_LABELS = 5  # more of them stand upright, so that none lies on its neighbour
LOG_RATIO = 8.0  # of the largest to the smallest value, from which on an axis is logarithmic


def draw_sweep(path: Path, jobs: Sequence[Job]) -> None:
    """Draws the jobs of a sweep, at least one, into the file ``path``.

    A dot is a job with a metric, a cross at the lower edge one without (failed, or nothing was measured).
    """
    names = varying(jobs)
    columns = min(COLUMNS, 1 + len(names))
    rows = math.ceil((1 + len(names)) / columns)
    figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout="constrained")
    axes = [figure.add_subplot(rows, columns, 1 + panel) for panel in range(1 + len(names))]
    _draw_panel(axes[0], jobs, "job", [str(job.number) for job in jobs])
    _draw_best_so_far(axes[0], jobs)
    for panel, name in zip(axes[1:], names, strict=True):
        _draw_panel(panel, jobs, name, [job.overrides.get(name, "") for job in jobs])
    axes[0].set_ylabel(jobs[0].monitor)
    present = [status for status in Status if any(job.status is status for job in jobs)]
    handles = [Line2D([], [], color=COLORS[status], marker="o", linestyle="", label=status.value) for status in present]
    axes[0].legend(handles=handles, fontsize="small")
    figure.savefig(path, dpi=110)


def varying(jobs: Sequence[Job]) -> list[str]:
    """Names of the settings that have more than one value among the jobs."""
    names = dict.fromkeys(name for job in jobs for name in job.overrides)
    return [name for name in names if len({job.overrides.get(name) for job in jobs}) > 1]


def _draw_panel(axes: Axes, jobs: Sequence[Job], name: str, values: Sequence[str]) -> None:
    places = _places(axes, values)
    for job, place in zip(jobs, places, strict=True):
        color = COLORS[job.status]
        if job.metric is not None:
            axes.plot(place, job.metric, "o", color=color, alpha=0.8)
        else:
            axes.plot(place, 0.03, "x", color=color, transform=axes.get_xaxis_transform())
    axes.set_xlabel(name, fontsize="small")
    axes.grid(alpha=0.3)


def _places(axes: Axes, values: Sequence[str]) -> list[float]:
    """Where the values are on the horizontal axis: numbers by their size, everything else side by side."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if numbers and all(map(math.isfinite, numbers)):
        if min(numbers) > 0 and max(numbers) / min(numbers) >= LOG_RATIO and not all(map(float.is_integer, numbers)):
            axes.set_xscale("log")
        return numbers
    labels = list(dict.fromkeys(values))
    rotation = 20 if len(labels) <= FEW_LABELS else 90
    axes.set_xticks(range(len(labels)), [label or "not set" for label in labels], rotation=rotation, fontsize="small")
    return [float(labels.index(value)) for value in values]


def _draw_best_so_far(axes: Axes, jobs: Sequence[Job]) -> None:
    better = max if jobs[0].mode == "max" else min
    measured = [(job.number, job.metric) for job in jobs if job.metric is not None]
    best = [better(value for _, value in measured[: count + 1]) for count in range(len(measured))]
    axes.step([number for number, _ in measured], best, where="post", color="tab:green", alpha=0.7)
