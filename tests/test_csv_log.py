import csv
import os

import pytest

from crossview.csv_log import RunCSVLogger, forget_after


def logger(folder, continues=None):
    return RunCSVLogger(continues=continues, save_dir=str(folder), name="", version="")


def log(folder, *entries, continues=None):
    writer = logger(folder, continues)
    for step, metrics in entries:
        writer.log_metrics(metrics, step)
    writer.save()


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def test_a_resumed_run_adds_rows_and_columns(tmp_path):
    log(tmp_path, (0, {"train/loss": 3.0}), (1, {"train/loss": 2.0}))
    log(tmp_path, (2, {"train/loss": 1.0}), (2, {"val/loss": 5.0}), continues="run")
    assert read(tmp_path) == [
        {"step": "0", "train/loss": "3.0"},
        {"step": "1", "train/loss": "2.0"},
        {"step": "2", "train/loss": "1.0"},
        {"step": "2", "val/loss": "5.0"},
    ]


def test_a_new_run_starts_anew(tmp_path):
    log(tmp_path, (0, {"train/loss": 3.0}))
    log(tmp_path, (7, {"val/loss": 1.0}))
    assert read(tmp_path) == [{"step": "7", "val/loss": "1.0"}]


def test_a_full_disk_loses_no_row(tmp_path, monkeypatch):
    log(tmp_path, (0, {"train/loss": 3.0}))

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        log(tmp_path, (1, {"val/loss": 5.0}), continues="run")  # a new column: the file is written anew
    assert read(tmp_path) == [{"step": "0", "train/loss": "3.0"}]


@pytest.mark.parametrize(("due", "kept"), [(False, ["0", "1", "1"]), (True, ["0", "1"])])
def test_rows_that_will_be_written_again_are_forgotten(due, kept, tmp_path):
    entries = [(0, {"train/loss": 3.0}), (1, {"train/loss": 2.0}), (1, {"val/loss": 4.0}), (2, {"train/loss": 1.0})]
    log(tmp_path, *entries)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("0.5")  # cut off
    forget_after(tmp_path / "metrics.csv", 1, due)
    assert [row["step"] for row in read(tmp_path)] == kept


def test_without_a_log_there_is_nothing_to_forget(tmp_path):
    forget_after(tmp_path / "metrics.csv", 1, False)
    assert list(tmp_path.iterdir()) == []
