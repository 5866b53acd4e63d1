"""Files that are whole at every moment."""

import errno
import os
import stat

import pytest

from crossview.files import whole_file, write_whole


def fail_on_the_way(path):
    with whole_file(path) as file:
        file.write(b"half")
        raise KeyError


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "old")
    with pytest.raises(KeyError):
        fail_on_the_way(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="only some systems write folders to the disk")
def test_a_drive_that_cannot_sync_folders_gets_the_file_all_the_same(tmp_path, monkeypatch):
    sync = os.fsync
    asked = []

    def files_only(handle):
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        asked.append(is_folder)
        if is_folder:
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert asked == [False, True]
