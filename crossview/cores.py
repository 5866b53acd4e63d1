"""How many processor cores there are to use."""

import os


def usable_cores() -> int:
    """The cores that this process may use, which a container or a scheduler may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
