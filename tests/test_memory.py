"""Freed memory is kept for the next step."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from crossview.memory import keep_freed_memory

COUNT_FAULTS = """
import resource, sys
import torch
from crossview.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
faults = []
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12_000_000)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults[6:]))
"""


def faults(how: str) -> int:
    """Page faults of another block of 48 MB, when some have been freed; alignment takes glibc a few to settle."""
    environment = os.environ | {"THP_MEM_ALLOC_ENABLE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, how], capture_output=True, text=True, check=True, env=environment
    )
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_freed_block_is_used_again_without_page_faults():
    assert faults("keep") < 100 < faults("return")


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
