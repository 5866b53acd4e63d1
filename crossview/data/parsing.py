"""Parses the files of many views, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from crossview.data.errors import DataError
from crossview.data.images import read_image_size
from crossview.data.progress import mapped, with_bar
from crossview.data.table import FileKey, Table
from crossview.data.voc_xml import MAX_BYTES, AnnotationError, Fault, ParsedView, parse_annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossview.data.errors import Report
    from crossview.data.table import FileStamp

Read = Callable[[FileKey, tuple[int, int]], ParsedView]
"""Reads the annotation of a view, given its files and the width and height of its image.

Raises `AnnotationError` or `DataError` where there is nothing usable.
"""

_IMAGE: Final = "an image that cannot be used"
_FILE: Final = "an annotation that cannot be read"

# Fewer views are read before a bar could be seen.
_BAR_FROM: Final = 200


class Parsed(NamedTuple):
    """Freshly parsed views.

    Attributes:
        table: The views that could be parsed.
        faults: What is wrong with single objects, by their number in the table.
        sound: The rows of the table without any fault, which may be kept in the cache.
    """

    table: Table
    faults: dict[int, Fault]
    sound: list[int]


class _Outcome(NamedTuple):
    """What became of one view; no view if it has problems."""

    view: ParsedView | None
    problems: list[tuple[str, str]]


def file_stamp(key: FileKey) -> FileStamp:
    """Times and sizes of the files of a view.

    Raises:
        DataError: If one of them cannot be looked at.
    """
    try:
        annotation, image = os.stat(key[0]), os.stat(key[1])  # noqa: PTH116 - twice as quick as Path.stat
    except OSError as error:
        raise DataError(f"{error.filename}: the file cannot be read ({error.strerror or error})") from error
    return annotation.st_mtime_ns, annotation.st_size, image.st_mtime_ns, image.st_size


def parse_views(
    keys: Sequence[FileKey],
    stamps: Sequence[FileStamp],
    read: Read,
    report: Report,
    *,
    workers: int,
    progress: bool,
) -> Parsed:
    """Parse annotations and image headers.

    Args:
        keys: The files of each view.
        stamps: Their times and sizes.
        read: Reads the annotation of a view.
        report: Takes the views that cannot be used.
        workers: Threads that read files; they help where files are far away (network drives).
        progress: Whether to show a bar, if there are many views and a terminal.

    Returns:
        The usable views.
    """
    outcomes = list(
        with_bar(
            mapped(partial(_parse, read=read), keys, workers),
            "Reading annotations",
            len(keys),
            shown=progress and len(keys) >= _BAR_FROM,
        )
    )
    for outcome in outcomes:
        for kind, place in outcome.problems:
            report.problems.add(kind, place)
    good = [row for row, outcome in enumerate(outcomes) if outcome.view is not None]
    views = [outcome.view for outcome in outcomes if outcome.view is not None]
    table = Table.build([keys[row] for row in good], [stamps[row] for row in good], views)
    starts = table.starts.tolist()
    faults = {
        start + number: fault
        for start, view in zip(starts, views, strict=False)
        for number, fault in view.object_faults
    }
    return Parsed(table, faults, [row for row, view in enumerate(views) if not view.object_faults])


def _parse(key: FileKey, read: Read) -> _Outcome:
    """Read the annotation and the image header of one view."""
    annotation, image = key
    problems: list[tuple[str, str]] = []
    size = (0, 0)
    try:
        size = read_image_size(image)
    except DataError as error:
        problems.append((_IMAGE, str(error)))
    view = None
    try:
        view = read(key, size)
    except AnnotationError as error:
        problems.extend((fault.kind, f"{annotation}:{fault.line}: {fault.found}") for fault in error.faults)
    except DataError as error:
        problems.append((_FILE, str(error)))
    return _Outcome(None if problems else view, problems)


def read_panorama(key: FileKey, size: tuple[int, int]) -> ParsedView:
    """Read a VOC annotation with a camera pose."""
    return parse_annotation(_content(key[0]), size)


def read_photo(key: FileKey, size: tuple[int, int]) -> ParsedView:
    """Read a VOC annotation of a photo: nothing of cameras, ids or locations is looked at."""
    return parse_annotation(_content(key[0]), size, has_pose=False)


def _content(annotation: str) -> bytes:
    """The bytes of an annotation file.

    Raises:
        DataError: If it cannot be read or is too large to be an annotation.
    """
    try:
        with Path(annotation).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{annotation}: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{annotation}: larger than {MAX_BYTES // 2**20} MB; expected one view's annotation")
    return content
