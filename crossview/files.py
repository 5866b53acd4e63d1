"""Files that are whole at every moment, whatever ends the program."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: str | bytes | memoryview, shared: bool = False) -> None:
    """Writes a file of which the content is at hand, see `whole_file`.

    Args:
        path: of the file.
        content: of the file; text is written as UTF-8.
        shared: see `whole_file`.

    Raises:
        OSError: it cannot be written; the earlier file is as it was.
    """
    with whole_file(path, shared) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def try_writing(folder: Path) -> None:
    """Makes a file in a folder, of which nothing stays.

    Raises:
        OSError: it cannot be made.
    """
    tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def whole_file(path: Path, shared: bool = False) -> Iterator[BinaryIO]:
    """A file to write to aside; at the end it is brought to the disk, and only then takes the place of an earlier one.

    Args:
        path: of the file.
        shared: several processes may write it at once, so each needs a name of its own for what it writes aside;
            otherwise what a killed process has left is written over.

    Raises:
        OSError: it cannot be written; the earlier file is as it was, as after any error within the block.
    """
    scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part" if shared else f"{path.name}.part")
    try:
        with scratch.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes sure that the new name of a file in it is on the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):  # some network drives cannot; the file is in its place all the same
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
