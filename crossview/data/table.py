"""Annotation files as columns: what the parser writes, the cache keeps and the policies read.

A table holds what the files say and nothing that a setting decides (no labels, no clipped boxes, no chosen order of
latitude and longitude), so no setting can make a cached table stale.

Conventions: boxes are xmin, ymin, xmax, ymax as in the file (VOC's are 1-based and inclusive); `location` holds the two
numbers in the order of the file; `yaw` has the unit of the file, and is NaN like `position` where there is no pose.
Objects are stored view after view.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from crossview.data.voc_xml import ParsedView

FileKey = tuple[str, str]
"""The annotation file and the image file of a view."""
FileStamp = tuple[int, int, int, int]
"""Modification time (ns) and size (bytes) of the annotation file, then of the image file."""

VIEW: Final = np.dtype(
    [
        ("stamp", np.int64, (4,)),
        ("size", np.int64, (2,)),  # width, height of the image file
        ("stated_size", np.int64, (2,)),  # what the annotation file says; 0 where it says nothing
        ("position", np.float64, (2,)),  # latitude, longitude of the camera
        ("yaw", np.float64),
        ("objects", np.int64),  # how many
    ]
)
OBJECT: Final = np.dtype(
    [
        ("name", np.int64),  # position in the vocabulary of class names
        ("box", np.float64, (4,)),
        ("location", np.float64, (2,)),
        ("id", np.int64),
        ("line", np.int64),
        ("has_id", np.bool_),
        ("has_location", np.bool_),
        ("difficult", np.bool_),
        ("truncated", np.bool_),
    ]
)


@dataclass(frozen=True)
class Table:
    """Views and their objects.

    Attributes:
        keys: The files of each of the V views.
        views: (V,) records of `VIEW`.
        objects: (all objects,) records of `OBJECT`.
        names: The vocabulary: class names in the order in which they were first met.
    """

    keys: list[FileKey]
    views: NDArray[np.void]
    objects: NDArray[np.void]
    names: list[str]

    @staticmethod
    def empty() -> Table:
        """A table without views."""
        return Table([], np.empty(0, VIEW), np.empty(0, OBJECT), [])

    @staticmethod
    def build(keys: Sequence[FileKey], stamps: Iterable[FileStamp], parsed: Sequence[ParsedView]) -> Table:
        """A table of freshly parsed views."""
        names = list(dict.fromkeys(item.name for view in parsed for item in view.objects))
        code = {name: number for number, name in enumerate(names)}
        views = [
            (stamp, view.size, view.stated_size, view.position, view.yaw, len(view.objects))
            for stamp, view in zip(stamps, parsed, strict=True)
        ]
        objects = [(code[item.name], *item[1:]) for view in parsed for item in view.objects]
        return Table(list(keys), np.array(views, VIEW), np.array(objects, OBJECT), names)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(V + 1,) where the objects of each view start, and the end."""
        return np.concatenate(([0], np.cumsum(self.views["objects"]))).astype(np.int64)

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """(all objects,) the view of each object."""
        return np.repeat(np.arange(len(self.keys)), self.views["objects"])

    def source(self, item: int) -> str:
        """The annotation file of an object."""
        return self.keys[int(self.owners[item])][0]

    def place(self, item: int) -> str:
        """File and line of an object; in a JSON file, whose reader tells no lines, the number of its annotation."""
        return self.position(item, int(self.objects["line"][item]))

    def position(self, item: int, line: int) -> str:
        """A line of the file of an object, likewise."""
        source = self.source(item)
        return f"{source}: annotations[{line}]" if source.endswith(".json") else f"{source}:{line}"

    def describe(self, item: int) -> str:
        """Class, corners as in the file, and id of an object."""
        record = self.objects[item]
        corners = ", ".join(
            f"{corner} {value:g}" for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), record["box"], strict=True)
        )
        return f"{self.names[record['name']]}, {corners}" + (f", ID {record['id']}" if record["has_id"] else "")

    def take(self, rows: Sequence[int]) -> Table:
        """The given views, in the given order, with their objects."""
        chosen = np.asarray(rows, dtype=np.int64)
        counts = self.views["objects"][chosen]
        # Objects of the k-th chosen view are consecutive: its start, then 0, 1, 2 ... within the view.
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        objects = self.objects[np.repeat(self.starts[chosen], counts) + within]
        return Table([self.keys[row] for row in rows], self.views[chosen], objects, self.names)

    def join(self, other: Table) -> Table:
        """The views of this table, then those of the other one."""
        names = list(dict.fromkeys([*self.names, *other.names]))
        code = {name: number for number, name in enumerate(names)}
        objects = other.objects.copy()
        if other.names:
            objects["name"] = np.array([code[name] for name in other.names], np.int64)[objects["name"]]
        return Table(
            self.keys + other.keys,
            np.concatenate((self.views, other.views)),
            np.concatenate((self.objects, objects)),
            names,
        )
