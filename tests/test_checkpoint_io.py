import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from crossview.checkpoint_io import SafeCheckpointIO
from crossview.user_errors import UserError


def content(path):
    return SafeCheckpointIO().load_checkpoint(path)["number"]


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"number": 1}, path)
    return path


def test_a_checkpoint_is_replaced(checkpoint):
    SafeCheckpointIO().save_checkpoint({"number": torch.tensor(2)}, checkpoint)
    assert content(checkpoint) == 2
    assert [file.name for file in checkpoint.parent.iterdir()] == ["last.ckpt"]


def test_it_is_on_the_disk_before_it_has_its_name(checkpoint, monkeypatch):
    order: list[str] = []

    def noted(name, function):
        def call(*arguments):
            order.append(name)
            return function(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", noted("fsync", os.fsync))
    monkeypatch.setattr(Path, "replace", noted("replace", Path.replace))
    SafeCheckpointIO().save_checkpoint({"number": 2}, checkpoint)
    assert order == ["fsync", "replace", "fsync"]  # the file, its name, the folder


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")]
)
def test_a_full_disk_leaves_the_earlier_one(number, words, checkpoint, monkeypatch):
    def fail(handle):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match=words) as caught:
            SafeCheckpointIO().save_checkpoint({"number": 2}, checkpoint)
    assert "the earlier one is intact" in str(caught.value)
    assert f"resume={checkpoint.parents[1]}" in str(caught.value)
    assert content(checkpoint) == 1
    assert [file.name for file in checkpoint.parent.iterdir()] == ["last.ckpt"]


class Code:
    def __reduce__(self):
        return os.mkdir, ("made_by_a_checkpoint",)


@pytest.mark.parametrize("weights_only", [None, False, True])
def test_nothing_in_a_file_is_executed(weights_only, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"number": Code()}, "evil.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        SafeCheckpointIO().load_checkpoint(Path("evil.ckpt"), weights_only=weights_only)
    assert not Path("made_by_a_checkpoint").exists()
