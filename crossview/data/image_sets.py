"""Image sets: text files with one pair of view names, or one view name, on a line.

White space of any kind and amount stands between words; blank lines, a byte order mark and Windows line ends are
ignored. Comments do not exist. A set may be named with the beginning of its folder, VOC2007/test, where several folders
have sets of that name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from crossview.data.errors import DataError, Problems, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SUFFIX: Final = ".txt"

_PAIR_LINE: Final = (
    "a line that is not a pair: expected two view names (file names without suffix) with white space between"
)
_VIEW_LINE: Final = (
    "a line that is not a view: expected a view name (file name without suffix), or, in the sets of a single class, a "
    "name and 1, 0 or -1"
)
_SELF: Final = "a pair of a view with itself: remove the line or name two different views"
_NAME: Final = "a view name with a folder in it: expected a file name without folder and without suffix"
_ABSENT: Final = "-1"
_FLAGS: Final = ("1", "0", _ABSENT)


class ListedPair(NamedTuple):
    """One line of an image set of pairs."""

    first: str
    second: str
    file: Path
    line: int


class ListedView(NamedTuple):
    """One line of an image set of single views."""

    name: str
    file: Path
    line: int


Listed = TypeVar("Listed")


class SetKind(NamedTuple, Generic[Listed]):
    """How image sets are read, and what they should have held where they hold nothing."""

    read: Callable[[Path, Problems], list[Listed]]
    empty: str


def read_sets(
    root: Path, folders: Sequence[Path], names: Sequence[str], kind: SetKind[Listed], report: Report
) -> list[list[Listed]]:
    """What the named image sets list, for each folder of sets.

    Args:
        root: The data root, from which the beginning of a folder is told.
        folders: Folders of image sets.
        names: Names of sets, with or without suffix, with or without the beginning of a folder.
        kind: What stands in them.
        report: Takes the lines that are wrong, and sets that are not in every folder.

    Raises:
        DataError: If a set is in none of the folders, or is empty.
    """
    if not names:
        raise DataError("no image set was named; give at least one, such as train")
    listed: list[list[Listed]] = [[] for _ in folders]
    for name in names:
        numbers, stem = _folders_of(root, folders, name)
        files = [folders[number] / (stem if stem.endswith(SUFFIX) else stem + SUFFIX) for number in numbers]
        there = [file.is_file() for file in files]
        if not any(there):
            known = "; ".join(available_sets(folder) for folder in folders)
            raise DataError(f"image set {name!r}: {files[0]} does not exist. Available {known}")
        for number, file, exists in zip(numbers, files, there, strict=True):
            if not exists:
                report.notices.append(f"image set {name!r} is not in {file.parent}: read from the other folders only")
                continue
            before = len(report.problems)
            found = kind.read(file, report.problems)
            if not found and len(report.problems) == before:
                raise DataError(f"{file}: {kind.empty}. Available {available_sets(file.parent)}")
            listed[number].extend(found)
    return listed


def _folders_of(root: Path, folders: Sequence[Path], name: str) -> tuple[list[int], str]:
    """The folders that a set may be in, and its name there.

    Raises:
        DataError: If no folder begins as the name does.
    """
    beginning, _, stem = name.rpartition("/")
    everywhere = list(range(len(folders)))
    if not beginning or any((folder / beginning).is_dir() for folder in folders):
        return everywhere, name
    start = root / beginning
    numbers = [number for number in everywhere if folders[number] == start or start in folders[number].parents]
    if not numbers:
        known = ", ".join(map(str, folders))
        raise DataError(f"image set {name!r}: no image-set folder begins with {start}. Folders of image sets: {known}")
    return numbers, stem


def read_image_set(path: Path, problems: Problems) -> list[ListedPair]:
    """Read the pairs of one image set.

    Args:
        path: The file.
        problems: Takes the lines that are no pairs.

    Returns:
        The pairs in the order of the file.

    Raises:
        DataError: If the file cannot be read or is not UTF-8.
    """
    pairs: list[ListedPair] = []
    for number, words, line in _lines(path):
        kind = _pair_fault(words)
        if kind is None:
            pairs.append(ListedPair(words[0], words[1], path, number))
        else:
            problems.add(kind, f"{path}:{number}: found {line.strip()[:200]!r}")
    return pairs


def read_view_set(path: Path, problems: Problems) -> list[ListedView]:
    """Read the views of one image set.

    The sets of a single class (VOC's aeroplane_train) have a second word: -1 says that the image has no object of the
    class, 0 that all of them are difficult, 1 that there are others. Views with -1 are left out.

    Args:
        path: The file.
        problems: Takes the lines that are no views.

    Returns:
        The views in the order of the file.

    Raises:
        DataError: If the file cannot be read or is not UTF-8.
    """
    views: list[ListedView] = []
    for number, words, line in _lines(path):
        if len(words) > 2 or (len(words) == 2 and words[1] not in _FLAGS):
            problems.add(_VIEW_LINE, f"{path}:{number}: found {line.strip()[:200]!r}")
        elif _has_folder(words[0]):
            problems.add(_NAME, f"{path}:{number}: found {line.strip()[:200]!r}")
        elif words[1:] != [_ABSENT]:
            views.append(ListedView(words[0], path, number))
    return views


PAIR_SETS: Final = SetKind(read_image_set, "the image set has no pairs; expected lines of two view names")
VIEW_SETS: Final = SetKind(read_view_set, "the image set has no images; expected lines of one view name")


def available_sets(folder: Path, suffix: str = SUFFIX) -> str:
    """The names of the sets in a folder, for error messages."""
    names = sorted(path.stem for path in folder.glob(f"*{suffix}"))
    return f"sets in {folder}: {', '.join(names) if names else 'none'}"


def _lines(path: Path) -> Iterator[tuple[int, list[str], str]]:
    """Number, words and text of the lines that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save the image set as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: the image set cannot be read ({error.strerror or error})") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if words := line.split():
            yield number, words, line


def _pair_fault(names: list[str]) -> str | None:
    """What is wrong with the words of a line."""
    if len(names) != 2:
        return _PAIR_LINE
    if any(map(_has_folder, names)):
        return _NAME
    return _SELF if names[0] == names[1] else None


def _has_folder(name: str) -> bool:
    return "/" in name or "\\" in name or name in {".", ".."}
