"""One annotation file: VOC XML, of panoramas with a camera pose, ids and locations.

Nothing outside the file is ever read and no entity is ever expanded: a document type declaration is refused.
Values are returned as the file has them (see `table.py`); policies come later, for the whole data set at once.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

from lxml import etree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_T = TypeVar("_T")

MAX_BYTES: Final = 32 * 1024 * 1024
"""Larger files are refused: an annotation of a thousand objects has half a megabyte."""

_NOTHING: Final = frozenset({"", "none", "null", "unspecified"})
_FLAGS: Final = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}
_WHOLE_NUMBER: Final = re.compile(r"([+-]?\d+)(?:\.0*)?")
_INT64: Final = range(-(2**63), 2**63)
_NAN: Final = math.nan
_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")

MALFORMED: Final = "malformed XML: correct the file or write it again"
DOCTYPE: Final = (
    "an annotation with a document type declaration (<!DOCTYPE>), refused because entities can read files and fill the "
    "memory: remove the declaration"
)
POSE: Final = (
    "a missing or wrong camera pose: expected <panocoords>latitude,longitude</panocoords> in degrees and <yaw>number"
    "</yaw> directly under <annotation>"
)
BOX: Final = "an object without a usable box: expected <bndbox> with finite numbers in xmin, ymin, xmax, ymax"
NAME: Final = "an object without a class: expected <name>class</name>"
VALUE: Final = (
    "a wrong value: expected <ID> a whole number (or no <ID>), <location> two finite numbers separated by a comma (or "
    "None), <difficult> and <truncated> 0 or 1"
)


class Fault(NamedTuple):
    """Something wrong in a file: its kind (see `Problems.add`), the line and what was found."""

    kind: str
    line: int
    found: str


class ParsedObject(NamedTuple):
    """One object; the fields are those of `table.OBJECT`, with the class by name."""

    name: str
    box: tuple[float, float, float, float]
    location: tuple[float, float]
    id: int
    line: int
    has_id: bool
    has_location: bool
    difficult: bool
    truncated: bool


class ParsedView(NamedTuple):
    """One view; `size` is filled from the image file, `position` and `yaw` are NaN without a camera pose."""

    size: tuple[int, int]
    stated_size: tuple[int, int]
    position: tuple[float, float]
    yaw: float
    objects: list[ParsedObject]
    object_faults: list[tuple[int, Fault]]  # number of the object in `objects`


class AnnotationError(Exception):
    """An annotation file that has no usable content as a whole."""

    def __init__(self, faults: list[Fault]) -> None:
        """Keep the faults for the report."""
        super().__init__(faults)
        self.faults = faults


def parse_annotation(content: bytes, size: tuple[int, int], *, has_pose: bool = True) -> ParsedView:
    """Parse one annotation file.

    Args:
        content: The bytes of the file.
        size: Width and height of the image file.
        has_pose: Whether the image is a panorama with a camera pose. Else poses, ids and locations are not looked at:
            in other people's files these tags may hold anything.

    Returns:
        The view. Faults of single objects are in `object_faults`: whether they matter depends on the class filter.

    Raises:
        AnnotationError: If the XML is malformed, has a DOCTYPE, or lacks a camera pose.
    """
    root = _parse(content)
    fields = _children(root)
    position, yaw = _pose(root, fields) if has_pose else ((_NAN, _NAN), _NAN)
    objects: list[ParsedObject] = []
    object_faults: list[tuple[int, Fault]] = []
    for number, element in enumerate(root.iterchildren("object")):
        parsed, fault = _parse_object(element, has_pose)
        objects.append(parsed)
        if fault is not None:
            object_faults.append((number, fault))
    return ParsedView(size, _stated_size(fields.get("size")), position, yaw, objects, object_faults)


def _parse(content: bytes) -> etree._Element:
    """The root element of safe, well-formed XML."""
    # Looked for before parsing, so that nothing is declared or expanded; `docinfo` finds it afterwards in rarer
    # encodings. Without its zero bytes UTF-16 reads like ASCII.
    before, declaration, _ = content.replace(b"\0", b"").partition(b"<!DOCTYPE")
    if declaration:
        raise AnnotationError([Fault(DOCTYPE, before.count(b"\n") + 1, "found <!DOCTYPE")])
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        detail = error.msg or "no content"
        raise AnnotationError([Fault(MALFORMED, max(line, 1), f"column {column}: {detail}")]) from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise AnnotationError([Fault(DOCTYPE, 1, "found a document type declaration")])
    if root.tag != "annotation":
        kind = "not a VOC annotation: expected <annotation> as the outermost element"
        raise AnnotationError([Fault(kind, _line(root), f"found <{root.tag}>")])
    return root


def _children(element: etree._Element) -> dict[str, etree._Element]:
    """Child elements by tag; nested ones (such as the boxes of parts) are not looked at."""
    return {str(child.tag): child for child in element}


def _pose(root: etree._Element, fields: Mapping[str, etree._Element]) -> tuple[tuple[float, float], float]:
    """Camera position (latitude, longitude) and yaw in the unit of the file."""
    faults: list[Fault] = []
    position = _numbers(_text(fields.get("panocoords")), 2)
    yaw = _numbers(_text(fields.get("yaw")), 1)
    for tag, value in (("panocoords", position), ("yaw", yaw)):
        if value is None:
            element = fields.get(tag)
            line = _line(root if element is None else element)
            found = f"no <{tag}>" if element is None else f"<{tag}> is {_text(element)!r}"
            faults.append(Fault(POSE, line, found))
    if position is None or yaw is None:
        raise AnnotationError(faults)
    return (position[0], position[1]), yaw[0]


def _stated_size(element: etree._Element | None) -> tuple[int, int]:
    """Width and height as the file says (never trusted); zeros where it says nothing readable."""
    if element is None:
        return 0, 0
    values = _numbers(f"{element.findtext('width', '')},{element.findtext('height', '')}", 2)
    return (0, 0) if values is None else (round(values[0]), round(values[1]))


def _parse_object(element: etree._Element, has_world: bool) -> tuple[ParsedObject, Fault | None]:
    """One object and the first thing that is wrong with it."""
    fields = _children(element)
    line = _line(element)
    faults: list[Fault] = []
    name = _text(fields.get("name"))
    if not name:
        faults.append(Fault(NAME, line, "<name> is empty" if "name" in fields else "no <name>"))
    box = _box(fields.get("bndbox"), line, faults)
    identity = _value(fields, "ID", _whole_number, faults) if has_world else None
    location = _value(fields, "location", _location, faults) if has_world else None
    parsed = ParsedObject(
        name=name,
        box=box,
        location=location or (_NAN, _NAN),
        id=identity or 0,
        line=line,
        has_id=identity is not None,
        has_location=location is not None,
        difficult=_value(fields, "difficult", _flag, faults) or False,
        truncated=_value(fields, "truncated", _flag, faults) or False,
    )
    return parsed, faults[0] if faults else None


def _box(element: etree._Element | None, line: int, faults: list[Fault]) -> tuple[float, float, float, float]:
    """The four numbers of <bndbox> as they stand."""
    if element is None:
        faults.append(Fault(BOX, line, "no <bndbox>"))
        return _NAN, _NAN, _NAN, _NAN
    corners = _children(element)
    texts = [_text(corners.get(tag)) for tag in _CORNERS]
    numbers = _numbers(",".join(texts), 4)
    if numbers is None:
        found = ", ".join(f"{tag} {text!r}" for tag, text in zip(_CORNERS, texts, strict=True))
        faults.append(Fault(BOX, _line(element), f"found {found}"))
        return _NAN, _NAN, _NAN, _NAN
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _value(
    fields: Mapping[str, etree._Element], tag: str, convert: Callable[[str], _T], faults: list[Fault]
) -> _T | None:
    """The converted text of an optional tag; None if the tag is missing or says "nothing"."""
    text = _text(fields.get(tag))
    if text.lower() in _NOTHING:
        return None
    try:
        return convert(text)
    except ValueError:
        faults.append(Fault(VALUE, _line(fields[tag]), f"<{tag}> is {text!r}"))
        return None


def _whole_number(text: str) -> int:
    """A 64-bit integer; tables exported with empty cells write 1523.0 for 1523."""
    match = _WHOLE_NUMBER.fullmatch(text)
    if match is None or int(match[1]) not in _INT64:
        raise ValueError(text)
    return int(match[1])


def _location(text: str) -> tuple[float, float] | None:
    """Two numbers in the order of the file; None for "None, None"."""
    if all(part.strip().lower() in _NOTHING for part in text.split(",")):
        return None
    numbers = _numbers(text, 2)
    if numbers is None:
        raise ValueError(text)
    return numbers[0], numbers[1]


def _flag(text: str) -> bool:
    """0 or 1."""
    flag = _FLAGS.get(text.lower())
    if flag is None:
        raise ValueError(text)
    return flag


def _numbers(text: str, count: int) -> list[float] | None:
    """That many finite numbers separated by commas; None if the text is anything else."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _text(element: etree._Element | None) -> str:
    """The stripped text; empty if there is none."""
    return "" if element is None else (element.text or "").strip()


def _line(element: etree._Element) -> int:
    """Line of the element's tag."""
    return cast("int | None", element.sourceline) or 1
