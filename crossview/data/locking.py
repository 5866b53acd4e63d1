"""File locks between processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a file lock that the system releases even when its holder dies.

    Where the system has no such locks (Windows) nothing is held: several may do the same work, and the first to finish
    wins.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
