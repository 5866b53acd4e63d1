import json
import math
import os

import pytest

from crossview.metrics_file import read_metrics, write_metrics


def test_metrics_are_sorted_and_what_does_not_exist_is_null(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(tmp_path, {"b": math.nan, "a": 0.5, "c": math.inf, "d": -math.inf})
    assert json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(word)) == {
        "a": 0.5,
        "b": None,
        "c": None,
        "d": None,
    }
    assert list(json.loads(path.read_text())) == ["a", "b", "c", "d"]


def test_metrics_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_metrics(tmp_path, {"a": 1.0})
    before = path.read_text()

    def full_disk(handle):
        os.truncate(handle, 3)
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="no space"):
            write_metrics(tmp_path, {"a": 2.0})
    assert path.read_text() == before
    write_metrics(tmp_path, {"a": 2.0})
    assert json.loads(path.read_text()) == {"a": 2.0}
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_metrics_are_read_in_the_order_of_the_names(tmp_path):
    (tmp_path / "metrics.json").write_text('{"test/a": 0.5, "test/b": null, "test/c": 1}')
    found = read_metrics(tmp_path, ["test/b", "test/z", "test/a"])
    assert list(found.items()) == [("test/b", None), ("test/a", 0.5)]


def test_a_run_that_did_not_get_to_the_end_has_no_metrics(tmp_path):
    assert read_metrics(tmp_path, ["test/a"]) == {}
