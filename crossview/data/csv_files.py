"""Reads photos with annotations in CSV files: one box on a line, as ssd_keras reads them.

```
image_name,xmin,xmax,ymin,ymax,class_id
1478019952686311006.jpg,237,251,143,155,1
street.jpg,,,,,
```
The first line names the columns, in any order; others are ignored. Classes are names, or numbers from 1 in the order of
the configured class names. A line with an image and nothing else lists an image without objects.
"""

from __future__ import annotations

import csv
import hashlib
import math
from typing import TYPE_CHECKING, Any, ClassVar, Final

from crossview.data.errors import DataError
from crossview.data.folders import OneOrMore
from crossview.data.listings import NAN, Entry, ListingReader, plain_object
from crossview.data.voc_xml import Fault

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from crossview.data.errors import Problems

COLUMNS: Final = {
    "image": "image_name",
    "xmin": "xmin",
    "xmax": "xmax",
    "ymin": "ymin",
    "ymax": "ymax",
    "class": "class_id",
}
"""The columns that are read, and their default names."""

_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")
_LINE: Final = "a line that is too short: expected a value for every column of the first line"
_IMAGE: Final = "a line without an image"
_NAME: Final = "an object without a class"
_BOX: Final = "an object without a usable box: expected finite numbers in xmin, ymin, xmax, ymax"


class CsvReader(ListingReader):
    """Reads image sets that are CSV files; see `ListingReader` and `PhotoReader` for further arguments.

    Args:
        root: The data root.
        class_names: Foreground classes in the order of their labels 1..C.
        image_dirs: Folders below the root, one or a list, in which the images are looked for.
        annotation_dir: Folder below the root; an image set is a file in it.
        columns: The names of the columns that are not called as in `COLUMNS`.
        delimiter: What stands between the columns.
        first_pixel: 0: corners are taken as they stand, as ssd_keras does; 1: they are inclusive and count from 1.
        **options: See `PhotoReader`.

    Raises:
        DataError: If a setting has no meaning.
    """

    config: ClassVar[str] = "csv"
    suffix: ClassVar[str] = ".csv"
    names_classes_by_number: ClassVar[bool] = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        class_names: Sequence[str],
        *,
        image_dirs: OneOrMore = "images",
        annotation_dir: str | os.PathLike[str] = ".",
        columns: Mapping[str, str] | None = None,
        delimiter: str = ",",
        first_pixel: int = 0,
        **options: Any,
    ) -> None:
        self._columns = {**COLUMNS, **(columns or {})}
        if others := sorted(set(self._columns) - set(COLUMNS)):
            raise DataError(f"columns has {', '.join(others)}; expected only {', '.join(COLUMNS)}")
        if len(delimiter) != 1:
            raise DataError(f"delimiter is {delimiter!r}; expected one character")
        self._delimiter = delimiter
        super().__init__(
            root, class_names, image_dirs=image_dirs, annotation_dir=annotation_dir, first_pixel=first_pixel, **options
        )

    def _cache_kind(self) -> str:
        settings = repr((sorted(self._columns.items()), self._delimiter))
        return f"{super()._cache_kind()}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"

    def _parse(self, path: Path, problems: Problems) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for line, cells in self._rows(path, problems):
            name, label = cells["image"], cells["class"]
            corners = [cells[corner] for corner in _CORNERS]
            if not name:
                problems.add(_IMAGE, f"{path}:{line}")
                continue
            entry = entries.setdefault(name, Entry(f"{path}:{line}", (0, 0), [], []))
            if not label and not any(corners):
                continue
            box = _numbers(corners)
            if box is None:
                found = ", ".join(f"{corner} {text!r}" for corner, text in zip(_CORNERS, corners, strict=True))
                entry.object_faults.append((len(entry.objects), Fault(_BOX, line, f"found {found}")))
            elif not label:
                fault = Fault(_NAME, line, f"{self._columns['class']} is empty")
                entry.object_faults.append((len(entry.objects), fault))
            entry.objects.append(plain_object(label, box or (NAN, NAN, NAN, NAN), line, difficult=False))
        return entries

    def _rows(self, path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, str]]]:
        """Line number and stripped cells of the rows.

        Raises:
            DataError: If the file cannot be read, or a column is missing.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.reader(file, delimiter=self._delimiter, strict=True)
                try:
                    places = self._places(path, next(rows, []))
                    for row in rows:
                        if len(row) > max(places.values()):
                            yield rows.line_num, {key: row[place].strip() for key, place in places.items()}
                        elif any(cell.strip() for cell in row):
                            found = self._delimiter.join(row)[:200]
                            problems.add(_LINE, f"{path}:{rows.line_num}: found {found!r}")
                except csv.Error as error:
                    raise DataError(f"{path}:{rows.line_num}: malformed CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
        except OSError as error:
            raise DataError(f"{path}: the annotations cannot be read ({error.strerror or error})") from error

    def _places(self, path: Path, header: Sequence[str]) -> dict[str, int]:
        """Where each column is."""
        names = [cell.strip() for cell in header]
        if missing := [name for name in self._columns.values() if names.count(name) != 1]:
            key = next(key for key, name in self._columns.items() if name in missing)
            raise DataError(
                f"{path}:1: expected one column {', '.join(missing)}; found {', '.join(names) or 'nothing'}. Say how "
                f"the columns of your file are called: columns.{key}=NAME"
            )
        return {key: names.index(name) for key, name in self._columns.items()}


def _numbers(texts: Sequence[str]) -> tuple[float, float, float, float] | None:
    """Four finite numbers."""
    try:
        xmin, ymin, xmax, ymax = (float(text) for text in texts)
    except ValueError:
        return None
    box = xmin, ymin, xmax, ymax
    return box if all(map(math.isfinite, box)) else None
