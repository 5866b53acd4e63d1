"""How many processor cores there are to use."""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container (Linux, cgroup v2): microseconds of work each period


def usable_cores() -> int:
    """The cores that this process may use, which a container or a scheduler may have limited; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such system, or "max": no limit
        return cores
