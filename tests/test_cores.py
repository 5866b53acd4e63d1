import os

import pytest

from crossview import cores
from crossview.cores import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only some systems bind processes to cores")
def test_a_bound_process_has_fewer_cores():
    before = os.sched_getaffinity(0)
    assert usable_cores() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_without_bound_processes_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores() == 6


@pytest.mark.parametrize(
    ("quota", "expected"), [("200000 100000", 2), ("max 100000", 6), ("50000 100000", 1), ("900000 100000", 6), ("", 6)]
)
def test_a_container_has_a_share_of_the_cores(tmp_path, monkeypatch, quota, expected):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores() == expected
