"""``metrics.json`` in a run folder: a flat JSON object of numbers by name; null where there was nothing to measure."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from crossview.files import write_whole

METRICS_FILE = "metrics.json"


def write_metrics(run_dir: Path, metrics: Mapping[str, float]) -> None:
    """Writes the metrics of a run, whole or not at all."""
    plain = {name: value if math.isfinite(value) else None for name, value in sorted(metrics.items())}
    write_whole(run_dir / METRICS_FILE, json.dumps(plain, indent=2) + "\n")


def read_metrics(run_dir: Path, names: Sequence[str]) -> dict[str, float | None]:
    """Those of some metrics that a run has left; none if it did not get to the end."""
    try:
        found: dict[str, float | None] = json.loads((run_dir / METRICS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {name: found[name] for name in names if name in found}
