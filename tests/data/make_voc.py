"""Writes small, valid data sets in the layout that `crossview.data.voc` reads, for tests.

The pictures show nothing but noise and coloured rectangles, but the geometry is right: objects stand on flat ground,
boxes, ids and locations of both views agree, and a box's foot is where the object stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IMAGES = "Images"
ANNOTATIONS = "VOC/Pasadena/Annotations_Multi"
IMAGE_SETS = "VOC/Pasadena/ImageSets/Main/reid_neu"

ORIGIN = (34.156992, -118.165118)
EARTH_RADIUS_M = 6_371_000.0
CAMERA_HEIGHT_M = 3.0


@dataclass(frozen=True)
class Item:
    """One <object>. `extra` and the None values allow for everything that occurs in the wild."""

    box: tuple[float | str, ...] = (11, 6, 30, 25)  # as in the file: 1-based, inclusive
    name: str | None = "tree"
    id: int | str | None = None
    location: str | None = None
    difficult: int | str | None = 0
    truncated: int | str | None = 0
    extra: str = ""

    def xml(self) -> str:
        """The element on one line."""
        corners = zip(("xmin", "ymin", "xmax", "ymax"), self.box, strict=True)
        box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in corners)
        values = {
            "name": self.name,
            "truncated": self.truncated,
            "difficult": self.difficult,
            "ID": self.id,
            "location": self.location,
        }
        fields = "".join(f"<{tag}>{value}</{tag}>" for tag, value in values.items() if value is not None)
        return f"<object>{fields}<bndbox>{box}</bndbox>{self.extra}</object>"


@dataclass(frozen=True)
class View:
    """One view's files; `xml` replaces the whole annotation if given."""

    items: Sequence[Item] = field(default_factory=list)
    panocoords: str | None = f"{ORIGIN[0]},{ORIGIN[1]}"
    yaw: str | None = "0.9073966781118519"
    size: tuple[int, int] = (64, 32)
    stated_size: tuple[int, int] | None = None

    def xml(self, name: str) -> str:
        """The annotation, an object a line; the first object is on line 5."""
        width, height = self.stated_size or self.size
        lines = [
            f"<annotation><filename>{name}.jpg</filename>",
            f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
            "" if self.panocoords is None else f"<panocoords>{self.panocoords}</panocoords>",
            "" if self.yaw is None else f"<yaw>{self.yaw}</yaw>",
            *(item.xml() for item in self.items),
            "</annotation>",
        ]
        return "\n".join(lines) + "\n"


def write_view(root: Path, name: str, view: View, image: np.ndarray | None = None) -> None:
    """Write the image (grey if not given) and the annotation of a view."""
    image_path, xml_path = root / IMAGES / f"{name}.jpg", root / ANNOTATIONS / f"{name}.xml"
    image_path.parent.mkdir(parents=True, exist_ok=True)
    xml_path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((view.size[1], view.size[0], 3), 128, np.uint8) if image is None else image
    assert cv2.imwrite(str(image_path), pixels)
    xml_path.write_text(view.xml(name))


def write_sets(root: Path, sets: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Write image sets."""
    folder = root / IMAGE_SETS
    folder.mkdir(parents=True, exist_ok=True)
    for name, pairs in sets.items():
        (folder / f"{name}.txt").write_text("".join(f"{first} {second}\n" for first, second in pairs))


def write_pair_dataset(
    root: Path,
    *,
    pairs: int | Mapping[str, int] = 6,
    size: tuple[int, int] = (128, 64),
    objects: int = 4,
    classes: Sequence[str] = ("tree",),
    seed: int = 0,
) -> Path:
    """Write a small valid data set.

    Each pair is two cameras 8 to 12 m apart with `objects` objects around them, 5 to 15 m from their middle. Every
    object has an id and a location; most are seen in both views, the last one of a pair only in the first view.

    Args:
        root: The data root; made if missing.
        pairs: Pairs in train (val and test have half as many, at least one), or pairs by set.
        size: Width and height of the images.
        objects: Objects around each pair; 0 makes pairs without objects.
        classes: Class names, drawn at random.
        seed: For everything random.

    Returns:
        The root.
    """
    rng = np.random.default_rng(seed)
    counts = (
        {"train": pairs, "val": max(pairs // 2, 1), "test": max(pairs // 2, 1)} if isinstance(pairs, int) else pairs
    )
    sets: dict[str, list[tuple[str, str]]] = {}
    for name, count in counts.items():
        sets[name] = [_write_pair(root, f"{name}{number:03d}", size, objects, classes, rng) for number in range(count)]
    few = {f"{name}_few": listed[: 4 if name == "train" else 2] for name, listed in sets.items()}
    write_sets(root, sets | few)
    return root


def _write_pair(
    root: Path,
    stem: str,
    size: tuple[int, int],
    objects: int,
    classes: Sequence[str],
    rng: np.random.Generator,
) -> tuple[str, str]:
    """Write the two views of one pair."""
    place = rng.uniform(-500, 500, 2)
    step = rng.uniform(4, 6) * _direction(rng.uniform(0, 2 * np.pi))
    bearings = rng.uniform(0, 2 * np.pi, objects)
    feet = place + rng.uniform(5, 15, objects)[:, None] * _direction(bearings).T
    heights, names = rng.uniform(3, 8, objects), rng.choice(list(classes), objects)
    first_id = int(rng.integers(1, 2**40))
    colours = rng.integers(0, 256, (objects, 3))
    for suffix, camera in (("z1", place - step), ("z2", place + step)):
        yaw = rng.uniform(-np.pi, np.pi)
        image = rng.integers(90, 150, (size[1], size[0], 3)).astype(np.uint8)
        items = []
        for number in range(objects if suffix == "z1" else max(objects - 1, 0)):
            corners = _box(feet[number] - camera, heights[number], yaw, size)
            if corners is None:
                continue
            left, top, right, bottom = (round(value) for value in corners)
            image[top:bottom, left:right] = colours[number]
            box = (left + 1, top + 1, right, bottom)
            location = "{:.7f},{:.7f}".format(*_latlng(feet[number]))
            items.append(Item(box, str(names[number]), first_id + number, location))
        panocoords = "{:.7f},{:.7f}".format(*_latlng(camera))
        write_view(root, f"{stem}_{suffix}", View(items, panocoords, f"{yaw:.9f}", size), image)
    return f"{stem}_z1", f"{stem}_z2"


def _box(offset: np.ndarray, height: float, yaw: float, size: tuple[int, int]) -> tuple[float, ...] | None:
    """Where an object stands in the picture; None if the seam cuts it or it is too small."""
    width_px, height_px = size
    distance = float(np.hypot(*offset))
    turn = (np.arctan2(offset[0], offset[1]) - yaw + np.pi) % (2 * np.pi)
    x = turn / (2 * np.pi) * width_px
    half = np.arctan2(height / 4, distance) / (2 * np.pi) * width_px
    top = (0.5 - np.arctan2(height - CAMERA_HEIGHT_M, distance) / np.pi) * height_px
    foot = (0.5 + np.arctan2(CAMERA_HEIGHT_M, distance) / np.pi) * height_px
    inside = x - half >= 0 and x + half <= width_px and 2 * half >= 2 and foot - top >= 2
    return (x - half, top, x + half, foot) if inside else None


def _direction(bearing: float | np.ndarray) -> np.ndarray:
    """East and north of a bearing, as the first dimension."""
    return np.array([np.sin(bearing), np.cos(bearing)])


def _latlng(east_north: np.ndarray) -> tuple[float, float]:
    """Degrees of a point near the origin."""
    latitude = ORIGIN[0] + np.degrees(east_north[1] / EARTH_RADIUS_M)
    longitude = ORIGIN[1] + np.degrees(east_north[0] / EARTH_RADIUS_M) / np.cos(np.radians(ORIGIN[0]))
    return float(latitude), float(longitude)
