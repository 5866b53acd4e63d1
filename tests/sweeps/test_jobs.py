"""What is read from the folders of a sweep, and the table made of it."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest

from crossview.sweeps.jobs import (
    Job,
    Status,
    close_jobs,
    read_job,
    read_jobs,
    split_overrides,
    write_job,
    write_table,
)


def make_job(sweep_dir, number, **values):
    run_dir = Path(sweep_dir, str(number))
    run_dir.mkdir(parents=True, exist_ok=True)
    job = Job(number, str(sweep_dir), str(run_dir), {"seed": str(number)}, "val/ap", "max", started=0.0)
    return replace(job, **values)


def test_overrides_are_split_at_the_first_equals_sign():
    overrides = ["optimizer.lr=1e-4", "+note=a=b", "++seed=1", "~callbacks", "data.class_names=[a,b]", "data.root="]
    assert split_overrides(overrides) == {
        "optimizer.lr": "1e-4",
        "note": "a=b",
        "seed": "1",
        "~callbacks": "",
        "data.class_names": "[a,b]",
        "data.root": "",
    }


def test_a_job_is_read_as_it_was_written(tmp_path):
    job = make_job(tmp_path, 3, status=Status.FAILED, error="first line\nsecond", metrics={"a": 0.5, "b": None})
    write_job(job)
    assert read_job(tmp_path / "3") == job
    assert [path.name for path in (tmp_path / "3").iterdir()] == ["job.json"]


def test_a_folder_without_a_job_is_none(tmp_path):
    assert read_job(tmp_path) is None
    assert read_jobs(tmp_path / "nowhere") == []


def test_jobs_are_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 1):
        write_job(make_job(tmp_path, number))
    assert [job.number for job in read_jobs(tmp_path)] == [1, 9, 10]


def test_a_job_that_still_runs_when_the_sweep_is_over_is_unfinished(tmp_path):
    write_job(make_job(tmp_path, 0, status=Status.OK, metric=0.5))
    write_job(make_job(tmp_path, 1))
    assert [job.status for job in close_jobs(tmp_path)] == [Status.OK, Status.UNFINISHED]
    assert [job.status for job in read_jobs(tmp_path)] == [Status.OK, Status.UNFINISHED]


def test_the_table_has_a_column_for_each_setting(tmp_path):
    jobs = [
        make_job(tmp_path, 0, status=Status.OK, metric=0.1 + 0.2, seconds=1.26, overrides={"a": "1"}),
        make_job(tmp_path, 1, status=Status.FAILED, error='no, "that"\nTraceback', overrides={"a": "2", "b": "[1,2]"}),
    ]
    write_table(tmp_path, jobs)
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    common = {"error": "", "b": "", "run_dir": "0"}
    assert rows[0] == {"job": "0", "a": "1", "status": "ok", "seconds": "1.3", "metric": repr(0.1 + 0.2), **common}
    assert rows[1] == {
        "job": "1",
        "a": "2",
        "b": "[1,2]",
        "status": "failed",
        "metric": "",
        "seconds": "",
        "run_dir": "1",
        "error": 'no, "that"',
    }


def test_the_table_has_a_column_for_each_further_metric_that_a_job_has(tmp_path):
    jobs = [
        make_job(tmp_path, 0, status=Status.FAILED),
        make_job(tmp_path, 1, status=Status.OK, metrics={"test/b": 0.1 + 0.2, "test/a": None}),
        make_job(tmp_path, 2, status=Status.OK, metrics={"test/b": 1.0, "test/a": 2.0}),
    ]
    write_table(tmp_path, jobs)
    head, *rows = csv.reader((tmp_path / "sweep.csv").read_text().splitlines())
    assert head == ["job", "seed", "status", "metric", "test/b", "test/a", "seconds", "run_dir", "error"]
    assert [row[4:6] for row in rows] == [["", ""], [repr(0.1 + 0.2), ""], ["1.0", "2.0"]]


def test_a_table_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    write_table(tmp_path, [make_job(tmp_path, 0)])
    before = (tmp_path / "sweep.csv").read_text()

    def full(*arguments, **settings):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_table(tmp_path, [])
    assert (tmp_path / "sweep.csv").read_text() == before
    assert not list(tmp_path.glob("*.part"))
