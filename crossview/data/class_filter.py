"""Which objects are read, and their labels.

Conventions: labels are 1..C in the order of the configured class names, whatever is included or excluded; 0 is
background and is never configured.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from crossview.data.errors import DataError, Report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossview.data.table import Table

UnknownPolicy = Literal["raise", "ignore"]

_DROPPED: Final = 0
_UNKNOWN: Final = -1
# An object without <name> passes for the first class, so that it is reported and not filtered away.
_NAMELESS: Final = 1


@dataclass(frozen=True, slots=True)
class ClassFilter:
    """Class names and what to do with each.

    Attributes:
        class_names: The foreground classes, in the order of their labels.
        include: The classes to read; all of `class_names` if empty.
        exclude: Classes not to read; they need not be in `class_names`.
        unknown: What to do with an object of any other class.
        numbered: Whether files may give the number of a class, 1..C, for its name.
    """

    class_names: tuple[str, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    unknown: UnknownPolicy
    numbered: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that contradict themselves.

        Raises:
            DataError: If class names are missing, repeated or name the background, or if `include` has others.
        """
        names = self.class_names
        if not names:
            raise DataError("class_names is empty; list the foreground classes, for example [tree]")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"class_names has {', '.join(repeated)} more than once; list every class once")
        if any(name.lower() == "background" for name in names):
            raise DataError("class_names has 'background'; list foreground classes only, background is added by itself")
        if others := [name for name in self.include if name not in names]:
            raise DataError(
                f"include_classes has {', '.join(others)}; expected only names of class_names: {_list(names)}"
            )
        if self.unknown not in get_args(UnknownPolicy):
            raise DataError(f"unknown_class is {self.unknown!r}; expected one of {', '.join(get_args(UnknownPolicy))}")

    def labels(self, table: Table, report: Report) -> NDArray[np.int64]:
        """(all objects,) labels; 0 or less for objects that are not to be read.

        Args:
            table: The objects.
            report: Takes unknown classes.
        """
        codes = np.array([self._label(name) for name in table.names], np.int64)
        labels = codes[table.objects["name"]] if len(codes) else np.empty(0, np.int64)
        unknown = np.flatnonzero(labels == _UNKNOWN)
        for code in np.unique(table.objects["name"][unknown]).tolist():
            items = unknown[table.objects["name"][unknown] == code].tolist()
            self._report_unknown(table, table.names[code], items, report)
        return labels

    def _label(self, name: str) -> int:
        """Label of a class name, or why it has none."""
        if not name:
            return _NAMELESS
        if self.numbered and name not in self.class_names and name.isdecimal() and 1 <= int(name) <= self._count:
            name = self.class_names[int(name) - 1]
        if name in self.exclude or (self.include and name not in self.include):
            return _DROPPED
        return self.class_names.index(name) + 1 if name in self.class_names else _UNKNOWN

    @property
    def _count(self) -> int:
        return len(self.class_names)

    def _report_unknown(self, table: Table, name: str, items: list[int], report: Report) -> None:
        """Objects of a class that no setting mentions."""
        if self.unknown == "ignore":
            report.notices.append(
                f"{len(items)} objects of the unknown class {name!r} were left out (unknown_class=ignore; "
                f"first: {table.place(items[0])})"
            )
            return
        near = difflib.get_close_matches(name.lower(), [known.lower() for known in self.class_names], n=1)
        hint = next(
            (f" (did you mean {known}?)" for known in self.class_names if near and known.lower() == near[0]), ""
        )
        numbers = f" and their numbers 1 to {self._count}" if self.numbered else ""
        kind = (
            f"unknown class {name!r}{hint}: known are {_list(self.class_names)}{numbers}; correct the annotations, "
            "add it to class_names, or leave it out with exclude_classes, include_classes or unknown_class=ignore"
        )
        for item in items:
            report.problems.add(kind, table.place(item))


def _list(names: tuple[str, ...]) -> str:
    """Names for a message."""
    return ", ".join(names)
