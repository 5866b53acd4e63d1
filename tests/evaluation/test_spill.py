import errno
import gc
import pickle
import tempfile
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch

from crossview.evaluation.spill import Spilled, pickled
from tests.evaluation.scenes import cached, same

ITEMS = [{"number": number, "values": np.arange(1000 * number)} for number in range(7)]


def numbers(items):
    return [item["number"] for item in items]


def test_items_come_back_in_order():
    spilled = Spilled(ITEMS)
    assert len(spilled) == 7
    assert numbers(spilled) == list(range(7))
    for found, item in zip(spilled, ITEMS, strict=True):
        np.testing.assert_array_equal(found["values"], item["values"])


@pytest.mark.parametrize(
    "part", [slice(2, 5), slice(5, 99), slice(3, 3), slice(6, 2), slice(None, None, 3), slice(None, None, -1)]
)
def test_parts_are_those_of_a_list(part):
    assert numbers(Spilled(ITEMS)[part]) == numbers(ITEMS[part])


def test_numbers_are_those_of_a_list():
    spilled = Spilled(ITEMS)
    assert [spilled[number]["number"] for number in (0, 6, -1, -7)] == [0, 6, 6, 0]
    for number in (7, -8):
        with pytest.raises(IndexError):
            spilled[number]
    assert not Spilled()
    assert Spilled()[:3] == []


def test_a_scene_comes_back_to_the_last_bit(pair_root):
    scenes = cached(pair_root)[0]
    assert same(tuple(Spilled(scenes)), tuple(scenes))


def test_tensors_can_be_written_to():
    (tensor,) = Spilled([torch.zeros(3)])
    tensor[0] = 1
    assert tensor.tolist() == [1, 0, 0]


def test_a_full_disk_is_said_with_its_folder(monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **settings: Full())
    with pytest.raises(OSError, match=rf"No space left on device.*{tempfile.gettempdir()}.*TMPDIR"):
        Spilled([1])


def test_pickled_items_can_be_added_between_reading():
    spilled = Spilled(ITEMS[:2])
    assert spilled[1]["number"] == 1
    spilled.append_pickled(pickled(ITEMS[5]))
    assert numbers(spilled) == [0, 1, 5]


def test_a_pickle_is_a_copy():
    spilled = Spilled(ITEMS[:3])
    copy = pickle.loads(pickle.dumps(spilled))
    spilled.append(ITEMS[3])
    assert numbers(copy) == [0, 1, 2]


def test_the_file_is_gone_with_the_list(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spilled = Spilled(ITEMS)
    assert numbers(spilled) == list(range(7))
    file = spilled._file
    del spilled
    gc.collect()
    assert file.closed
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif("fork" not in torch.multiprocessing.get_all_start_methods(), reason="needs forks")
def test_forked_processes_read_at_the_same_time():
    global _shared
    _shared = Spilled(ITEMS)
    with get_context("fork").Pool(2) as pool:
        found = pool.map(_number_of, list(range(7)) * 20, chunksize=1)
    assert found == list(range(7)) * 20


_shared: Spilled[Any] = Spilled()


def _number_of(index):
    item = _shared[index]
    assert len(item["values"]) == 1000 * item["number"]
    return item["number"]
