"""Reading in one line, for the tests of the VOC reader."""

from pathlib import Path

import pytest

from crossview.data.annotation import ViewAnnotation
from crossview.data.errors import DataError
from crossview.data.voc import PairedAnnotations, PairedVocReader
from tests.data.make_voc import ANNOTATIONS, Item, View, write_sets, write_view


def read(root: Path | str, sets="train", names=("tree", "pole"), **settings) -> PairedAnnotations:
    return PairedVocReader(root, names, **settings).read(sets)


def message(root: Path, sets="train", names=("tree", "pole"), **settings) -> str:
    """What a user is told."""
    with pytest.raises(DataError) as caught:
        PairedVocReader(root, names, **settings).read(sets)
    return str(caught.value)


def with_view(root: Path, view: View) -> Path:
    """A data set of one pair whose first view is this one; its annotation file."""
    write_view(root, "a", view)
    write_view(root, "b", View())
    write_sets(root, {"train": [("a", "b")]})
    return root / ANNOTATIONS / "a.xml"


def read_items(root: Path, *items: Item, names=("tree", "pole"), **settings) -> tuple[ViewAnnotation, list[str]]:
    """Annotation of a view with these objects, and the notices. Its partner is empty."""
    with_view(root, View(items))
    found = read(root, names=names, **settings)
    return found.views[0], found.notices
