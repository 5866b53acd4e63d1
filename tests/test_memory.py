"""Freed memory is kept for the next step."""

import ctypes
import gc
import os
import platform
import subprocess
import sys

import pytest

from crossview.memory import keep_freed_memory, no_garbage_collection

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")

COUNT_FAULTS = """
import resource, sys
from threading import Thread
import torch
from crossview.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)

def fill():
    torch.set_num_threads(1)
    maps = torch.ones(12_000_000)
    for pixels in (12, 6, 6, 3):
        maps = torch.ones(pixels * 1_000_000)

def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    threads = [Thread(target=fill) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(sum(step() for _ in range(20)))
"""


def faults(how: str) -> int:
    """Page faults of 20 steps in which two threads fill blocks of 12 to 48 MB; the first one has some 50,000."""
    environment = os.environ | {"THP_MEM_ALLOC_ENABLE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, how], capture_output=True, text=True, check=True, env=environment
    )
    return int(result.stdout)


WHERE_A_THREAD_ALLOCATES = """
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import torch
from crossview.memory import keep_freed_memory
assert keep_freed_memory()
with ThreadPoolExecutor(1) as pool:
    address = pool.submit(lambda: torch.ones(12_000_000)).result().data_ptr()
(heap,) = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[heap]")]
first, last = (int(bound, 16) for bound in heap.split("-"))
assert first <= address < last, (hex(address), heap)
"""


@needs_glibc
def test_threads_share_what_is_kept():
    subprocess.run([sys.executable, "-c", WHERE_A_THREAD_ALLOCATES], check=True)


@needs_glibc
def test_freed_blocks_are_used_again_without_page_faults():
    assert faults("keep") < 300_000 < faults("return")


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()


@pytest.mark.parametrize("is_enabled", [True, False])
def test_garbage_is_looked_for_as_before_afterwards(is_enabled):
    (gc.enable if is_enabled else gc.disable)()
    try:
        with no_garbage_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == is_enabled
    finally:
        gc.enable()


def test_garbage_is_looked_for_again_after_an_error():
    with pytest.raises(ZeroDivisionError), no_garbage_collection():
        raise ZeroDivisionError
    assert gc.isenabled()
