"""Reads photos with COCO annotations: JSON files with `images`, `annotations` and `categories`.

```
ROOT/annotations/instances_train2017.json
ROOT/train2017/<file_name>
```
Boxes are `[x, y, width, height]` in 0-based pixels; crowds (`iscrowd`) are taken as difficult. Class names are those of
the file; their numbers may have gaps, as COCO's own have.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, ClassVar, Final

from crossview.data.errors import DataError
from crossview.data.folders import OneOrMore
from crossview.data.listings import NAN, Entry, ListingReader, plain_object
from crossview.data.voc_xml import Fault

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from crossview.data.errors import Problems

_LISTS: Final = ("images", "annotations", "categories")
_CATEGORY: Final = "a category that cannot be used: expected an object with an id and a name, each id once"
_IMAGE: Final = "an image that cannot be used: expected an object with an id and a file_name, each of them once"
_ANNOTATION: Final = (
    "an annotation that cannot be used: expected an object with the image_id of one of the images and the category_id "
    "of one of the categories"
)
_BOX: Final = "an object without a usable box: expected bbox with four finite numbers x, y, width, height"


class CocoReader(ListingReader):
    """Reads image sets that are COCO files; see `ListingReader` and `PhotoReader` for the arguments."""

    config: ClassVar[str] = "coco"
    suffix: ClassVar[str] = ".json"

    def __init__(
        self,
        root: str | os.PathLike[str],
        class_names: Sequence[str],
        *,
        image_dirs: OneOrMore = ("train2017", "val2017"),
        annotation_dir: str | os.PathLike[str] = "annotations",
        **options: Any,
    ) -> None:
        super().__init__(
            root, class_names, image_dirs=image_dirs, annotation_dir=annotation_dir, first_pixel=0, **options
        )

    def _parse(self, path: Path, problems: Problems) -> dict[str, Entry]:
        content = _load(path)
        classes = _classes(path, content["categories"], problems)
        entries, names = _images(path, content["images"], problems)
        for number, item in _objects(path, "annotations", content["annotations"], _ANNOTATION, problems):
            name = names.get(_hashable(item.get("image_id")))
            category = classes.get(_hashable(item.get("category_id")))
            if name is None or category is None:
                key = "image_id" if name is None else "category_id"
                problems.add(_ANNOTATION, f"{path}: annotations[{number}]: {key} is {item.get(key)!r}")
                continue
            entry = entries[name]
            box = _corners(item.get("bbox"))
            if box is None:
                fault = Fault(_BOX, number, f"bbox is {item.get('bbox')!r}")
                entry.object_faults.append((len(entry.objects), fault))
                box = (NAN, NAN, NAN, NAN)
            entry.objects.append(plain_object(category, box, number, difficult=bool(item.get("iscrowd", False))))
        return entries


def _load(path: Path) -> dict[str, list[Any]]:
    """The content of a file, with all three lists.

    Raises:
        DataError: If it cannot be read, or is not a COCO file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: malformed JSON at column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except (OSError, RecursionError) as error:
        raise DataError(f"{path}: the annotations cannot be read ({error})") from error
    lists = content if isinstance(content, dict) else {}
    for key in _LISTS:
        if not isinstance(lists.get(key), list):
            raise DataError(
                f"{path}: no list {key!r}; expected a COCO file of object instances with {', '.join(_LISTS)}, found "
                f"{', '.join(lists) or 'none of them'}"
            )
    return {key: lists[key] for key in _LISTS}


def _objects(
    path: Path, key: str, items: list[Any], kind: str, problems: Problems
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a list, numbered."""
    for number, item in enumerate(items):
        if isinstance(item, dict):
            yield number, item
        else:
            problems.add(kind, f"{path}: {key}[{number}] is {item!r}"[:300])


def _classes(path: Path, items: list[Any], problems: Problems) -> dict[int | str | None, str]:
    """Class names by number."""
    classes: dict[int | str | None, str] = {}
    for number, item in _objects(path, "categories", items, _CATEGORY, problems):
        identity, name = _hashable(item.get("id")), item.get("name")
        if identity is None or identity in classes or not isinstance(name, str) or not name.strip():
            problems.add(_CATEGORY, f"{path}: categories[{number}]: id {item.get('id')!r}, name {name!r}")
        else:
            classes[identity] = name.strip()
    return classes


def _images(path: Path, items: list[Any], problems: Problems) -> tuple[dict[str, Entry], dict[int | str | None, str]]:
    """Images without objects by file name, and the file names by number."""
    entries: dict[str, Entry] = {}
    names: dict[int | str | None, str] = {}
    for number, item in _objects(path, "images", items, _IMAGE, problems):
        place = f"{path}: images[{number}]"
        identity, name = _hashable(item.get("id")), item.get("file_name")
        if identity is None or not isinstance(name, str) or not name or identity in names or name in entries:
            problems.add(_IMAGE, f"{place}: id {item.get('id')!r}, file_name {name!r}")
            continue
        names[identity] = name
        width, height = item.get("width"), item.get("height")
        stated = (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)
        entries[name] = Entry(place, stated, [], [])
    return entries, names


def _corners(bbox: object) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of a box."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in bbox):
        return None
    try:
        x, y, width, height = map(float, bbox)
    except OverflowError:  # JSON's integers have no end
        return None
    box = x, y, x + width, y + height
    return box if all(map(math.isfinite, box)) else None


def _hashable(identity: object) -> int | str | None:
    """An id; None for anything that cannot be one."""
    return identity if isinstance(identity, int | str) else None
