"""Image sets: text files with one pair of view names on a line.

White space of any kind and amount stands between the two names; blank lines, a byte order mark and Windows line ends
are ignored. Comments do not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from crossview.data.errors import DataError, Problems

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX: Final = ".txt"

_LINE: Final = "a line that is not a pair: expected two view names (file names without suffix) with white space between"
_SELF: Final = "a pair of a view with itself: remove the line or name two different views"
_NAME: Final = "a view name with a folder in it: expected a file name without folder and without suffix"


class ListedPair(NamedTuple):
    """One line of an image set."""

    first: str
    second: str
    file: Path
    line: int


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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save the image set as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: the image set cannot be read ({error.strerror or error})") from error
    pairs: list[ListedPair] = []
    for number, line in enumerate(text.split("\n"), start=1):
        names = line.split()
        if not names:
            continue
        kind = _fault(names)
        if kind is None:
            pairs.append(ListedPair(names[0], names[1], path, number))
        else:
            problems.add(kind, f"{path}:{number}: found {line.strip()[:200]!r}")
    return pairs


def available_sets(folder: Path) -> str:
    """The names of the image sets in a folder, for error messages."""
    names = sorted(path.stem for path in folder.glob(f"*{SUFFIX}"))
    return f"sets in {folder}: {', '.join(names) if names else 'none'}"


def _fault(names: list[str]) -> str | None:
    """What is wrong with the words of a line."""
    if len(names) != 2:
        return _LINE
    if any("/" in name or "\\" in name or name in {".", ".."} for name in names):
        return _NAME
    return _SELF if names[0] == names[1] else None
