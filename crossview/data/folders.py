"""Finding the files of a data set: which folders belong together, and which files a view has.

Folders are configured as one value or a list. Every image-set folder is a source of views. With one source, views are
looked for in all image folders and in all annotation folders. With several sources, the n-th image folder and the n-th
annotation folder belong to the n-th image-set folder; a single one belongs to all of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crossview.data.errors import SHOWN, DataError

if TYPE_CHECKING:
    from crossview.data.errors import Problems
    from crossview.data.table import FileKey

OneOrMore = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

FileIndex = dict[str, list[str]]
"""Files by view name: one for each folder that has the view."""


class Folders(NamedTuple):
    """Folders of one kind: their names for messages, and their files."""

    names: str
    files: FileIndex


class Source(NamedTuple):
    """An image-set folder with the folders of its images and annotations."""

    sets: Path
    images: Folders
    annotations: Folders


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are; folders are relative to the root."""

    root: Path
    image_dirs: tuple[str, ...]
    annotation_dirs: tuple[str, ...]
    image_set_dirs: tuple[str, ...]
    image_suffixes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            DataError: If a list is empty, the numbers of folders do not fit, or a suffix has no dot.
        """
        count = len(self.image_set_dirs)
        for key in ("image_dirs", "annotation_dirs", "image_set_dirs", "image_suffixes"):
            if not getattr(self, key):
                raise DataError(f"{key} is empty; give at least one")
        for key in ("image_dirs", "annotation_dirs"):
            if count > 1 and len(getattr(self, key)) not in (1, count):
                raise DataError(
                    f"{key} has {len(getattr(self, key))} folders for {count} image_set_dirs; give 1 or {count}"
                )
        if wrong := [suffix for suffix in self.image_suffixes if not suffix.startswith(".")]:
            raise DataError(f"image_suffixes has {', '.join(wrong)}; expected suffixes with a dot, such as .jpg")


def as_tuple(value: OneOrMore) -> tuple[str, ...]:
    """One value or a list, as a tuple of strings."""
    return (os.fspath(value),) if isinstance(value, str | os.PathLike) else tuple(os.fspath(item) for item in value)


def find_sources(layout: Layout) -> list[Source]:
    """List the folders.

    Args:
        layout: The configured folders.

    Returns:
        One source for each image-set folder.

    Raises:
        DataError: If a folder is missing (saying what is there instead), or if the lists do not fit each other.
    """
    try:
        check_folder("root", layout.root)
        sets = [check_folder("image_set_dirs", layout.root / name) for name in layout.image_set_dirs]
        images = _share("image_dirs", layout.root, layout.image_dirs, layout.image_suffixes, len(sets))
        annotations = _share("annotation_dirs", layout.root, layout.annotation_dirs, (".xml",), len(sets))
    except OSError as error:
        raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror or error})") from error
    return [Source(*parts) for parts in zip(sets, images, annotations, strict=True)]


def find_views(
    source: Source,
    places: Mapping[str, str],
    image_suffixes: Sequence[str],
    problems: Problems,
    remedy: str = "remove the line",
) -> dict[str, FileKey]:
    """Find the files of views.

    Args:
        source: Where to look.
        places: The names of the views, each with the place (file and line) that names it first.
        image_suffixes: For the error message.
        problems: Takes the views without an image, without an annotation, or with several.
        remedy: What else than adding a file helps where one is missing.

    Returns:
        The annotation and the image of each view by its name, in the order of `places`.
    """
    pattern = f"<view>{{{','.join(image_suffixes)}}}"
    views: dict[str, FileKey] = {}
    for name, place in places.items():
        annotation = _only("annotation", name, place, source.annotations, "<view>.xml", remedy, problems)
        image = _only("image", name, place, source.images, pattern, remedy, problems)
        if annotation and image:
            views[name] = (annotation, image)
    return views


def _only(
    what: str, name: str, place: str, folders: Folders, pattern: str, remedy: str, problems: Problems
) -> str | None:
    """The one file of a view."""
    files = folders.files.get(name, [])
    if len(files) == 1:
        return files[0]
    if files:
        kind = f"a view with several {what}s: keep one, or give every image-set folder its own folders (lists)"
        problems.add(kind, f"{place}: {name!r} is {' and '.join(files)}")
    else:
        kind = f"a view without {what}: expected {pattern} in {folders.names}; add the file or {remedy}"
        hint = " (leave the suffix out)" if Path(name).stem in folders.files else ""
        problems.add(kind, f"{place}: {name!r}{hint}")
    return None


def _share(key: str, root: Path, names: Sequence[str], suffixes: Sequence[str], count: int) -> list[Folders]:
    """The configured folders of one kind, distributed over the sources."""
    folders = [check_folder(key, root / name) for name in names]
    indices = [_index(folder, suffixes) for folder in folders]
    if count == 1:
        return [Folders(", ".join(map(str, folders)), _merge(indices))]
    single = [Folders(str(folder), _merge([index])) for folder, index in zip(folders, indices, strict=True)]
    return single if len(single) == count else single * count


def check_folder(key: str, folder: Path) -> Path:
    """The folder, if it is there.

    Raises:
        DataError: If it is not; says what is there instead.
    """
    if folder.is_dir():
        return folder
    if folder.exists():
        raise DataError(f"{key}: {folder} is a file; expected a folder")
    parent = next((parent for parent in folder.parents if parent.is_dir()), Path("/"))
    there = sorted(entry.name for entry in parent.iterdir())
    shown = ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN} more" if len(there) > SHOWN else "")
    raise DataError(
        f"{key}: the folder {folder} does not exist. {parent} contains: {shown or 'nothing'}. Correct data.root or "
        f"{key}"
    )


def _index(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    """The file of each stem; of several, the one whose suffix comes first. Suffixes in any case."""
    ranks = {suffix.lower(): rank for rank, suffix in enumerate(suffixes)}
    best: dict[str, tuple[int, str]] = {}
    # os.path is several times quicker than Path here, and folders have up to 100,000 files.
    for name in sorted(os.listdir(folder)):  # noqa: PTH208
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        rank = ranks.get(suffix.lower())
        if rank is not None and (stem not in best or rank < best[stem][0]):
            best[stem] = rank, name
    return {stem: f"{folder}{os.sep}{name}" for stem, (_, name) in best.items()}


def _merge(indices: Sequence[dict[str, str]]) -> FileIndex:
    """All files of each stem."""
    merged: FileIndex = {}
    for index in indices:
        for stem, file in index.items():
            merged.setdefault(stem, []).append(file)
    return merged
