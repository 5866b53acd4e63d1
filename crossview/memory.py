"""How the process gets its memory from the system, and when it looks for garbage."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
M_ARENA_MAX = -8


def keep_freed_memory() -> bool:
    """Keeps what is freed for the next allocation; returns whether the C library has such a setting (glibc has).

    glibc maps each block of more than 32 MB anew and returns it when it is freed. On the CPU the first feature maps of
    a network are such blocks, in every step, and having the system clear their pages takes an eighth of a step of
    SSD300. The price is that the process never shrinks below its peak. All threads share what is kept: in pools of
    their own, as otherwise those that start later have, large blocks would be returned all the same.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, 2**31 - 1), mallopt(M_ARENA_MAX, 1)])


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Looks for no garbage meanwhile, in the whole process: for work that makes many objects, which stay.

    Python looks through what is new each time, and now and then through everything. What nobody refers to any more is
    freed all the same, but for objects that refer to each other.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
