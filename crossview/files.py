"""Files that are whole at every moment, whatever ends the program."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Writes a file aside, makes sure it is on the disk, and only then puts it in the place of an earlier one.

    Raises:
        OSError: it cannot be written; the earlier file is as it was.
    """
    scratch = path.with_name(f"{path.name}.part")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes sure that the new name of a file in it is on the disk, where the system can tell."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
