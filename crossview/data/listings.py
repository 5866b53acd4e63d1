"""Annotation files that list many images each (COCO's JSON, CSV): which files, and where their images are."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from crossview.data.errors import SHOWN, DataError
from crossview.data.folders import OneOrMore, as_tuple, check_folder
from crossview.data.image_sets import available_sets
from crossview.data.photos import Listing, PhotoReader
from crossview.data.voc_xml import Fault, ParsedObject, ParsedView

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from crossview.data.errors import Problems, Report
    from crossview.data.table import FileKey

NAN: Final = float("nan")
NOWHERE: Final = (NAN, NAN)


class Entry(NamedTuple):
    """An image as an annotation file lists it; the fields are those of `ParsedView`."""

    place: str
    stated_size: tuple[int, int]
    objects: list[ParsedObject]
    object_faults: list[tuple[int, Fault]]


def plain_object(name: str, box: tuple[float, float, float, float], line: int, *, difficult: bool) -> ParsedObject:
    """An object without id and location."""
    return ParsedObject(name, box, NOWHERE, 0, line, False, False, difficult, False)


class ListingReader(PhotoReader):
    """Reads annotation files that list images; subclasses parse them.

    Args:
        root: The data root.
        class_names: Foreground classes in the order of their labels 1..C.
        image_dirs: Folders below the root, one or a list, in which the images are looked for.
        annotation_dir: Folder below the root; an image set is a file in it.
        annotation_files: One file below the root, or several, to be split by name and seed; None: image sets are files.
        **options: See `PhotoReader`.

    Raises:
        DataError: If a setting has no meaning.
    """

    suffix: ClassVar[str]

    def __init__(
        self,
        root: str | os.PathLike[str],
        class_names: Sequence[str],
        *,
        image_dirs: OneOrMore,
        annotation_dir: str | os.PathLike[str],
        annotation_files: OneOrMore | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, class_names, **options)
        self._image_dirs = as_tuple(image_dirs)
        self._annotation_dir = annotation_dir
        self._annotation_files = () if annotation_files is None else as_tuple(annotation_files)

    @abstractmethod
    def _parse(self, path: Path, problems: Problems) -> dict[str, Entry]:
        """The images of a file by name, as the file writes it (relative to an image folder).

        Raises:
            DataError: If the file cannot be read at all.
        """

    def _list(self, names: Sequence[str], report: Report) -> Listing:
        check_folder("root", self.root)
        folders = [check_folder("image_dirs", self.root / name) for name in self._image_dirs]
        entries: dict[FileKey, Entry] = {}
        owners: dict[str, str] = {}
        for path in self._files(names):
            listed = self._parse(path, report.problems)
            if not listed and not len(report.problems):
                raise DataError(f"{path}: the file lists no images")
            for name, entry in listed.items():
                image = _find(name, entry.place, folders, report.problems)
                if image is None:
                    continue
                if (other := owners.setdefault(image, entry.place)) != entry.place:
                    kind = "an image in several annotation files that are read together: keep one"
                    report.problems.add(kind, f"{image}: {other} and {entry.place}")
                entries[str(path), image] = entry

        def read(key: FileKey, size: tuple[int, int]) -> ParsedView:
            _, stated_size, objects, faults = entries[key]
            return ParsedView(size, stated_size, NOWHERE, NAN, objects, faults)

        return Listing(list(entries), read, is_whole=bool(self._annotation_files))

    def _files(self, names: Sequence[str]) -> list[Path]:
        """The annotation files to read.

        Raises:
            DataError: If one of them is not there.
        """
        if self._annotation_files:
            files = [self.root / name for name in self._annotation_files]
            if missing := [file for file in files if not file.is_file()]:
                raise DataError(f"annotation_files: {', '.join(map(str, missing[:SHOWN]))} does not exist")
            return files
        folder = check_folder("annotation_dir", self.root / self._annotation_dir)
        if not names:
            raise DataError("no image set was named; give at least one, such as train")
        files = [folder / (name if name.endswith(self.suffix) else name + self.suffix) for name in dict.fromkeys(names)]
        for name, file in zip(dict.fromkeys(names), files, strict=True):
            if not file.is_file():
                raise DataError(
                    f"image set {name!r}: {file} does not exist. Available {available_sets(folder, self.suffix)}. A "
                    "single file is split by name and seed: annotation_files=FILE"
                )
        return files


def _find(name: str, place: str, folders: Sequence[Path], problems: Problems) -> str | None:
    """The one image file of a name."""
    found = [path for folder in folders if (path := folder / name).is_file()]
    if len(found) == 1:
        return str(found[0])
    if found:
        problems.add("an image in several image folders: keep one", f"{place}: {' and '.join(map(str, found))}")
    else:
        kind = f"an image that is not there: expected it in {', '.join(map(str, folders))}; add it or set image_dirs"
        problems.add(kind, f"{place}: {name}")
    return None
