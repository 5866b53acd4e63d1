"""The files of a rendered data set: pictures, VOC annotations and lists of pairs, in the Pasadena layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.annotate import Annotation
from crossview.data.streets.canvas import Picture
from crossview.data.streets.settings import StreetSettings
from crossview.data.streets.trees import Tree
from crossview.geometry.frames import to_latlng

IMAGES = "Images"
ANNOTATIONS = "VOC/Pasadena/Annotations_Multi"
PAIRS = "VOC/Pasadena/ImageSets/Main/reid_neu"
FEW = {"train": 4, "val": 2, "test": 2}
IDS_PER_STREET = 10_000
STREETS_A_ROW = 8
BLOCK_M = 420.0


@dataclass(frozen=True, slots=True)
class Pose:
    """The written pose of a view, with noise if asked for: latitude and longitude in degrees, yaw in radians."""

    latlng: NDArray[np.float64]
    yaw: float


def view_name(street: int, number: int) -> str:
    """Name of a view, the stem of its files."""
    return f"street{street:03d}_{number:02d}"


def street_origin(settings: StreetSettings, street: int) -> NDArray[np.float64]:
    """Latitude and longitude (2,) of the origin of a street's local frame: streets lie on a grid."""
    row, column = divmod(street, STREETS_A_ROW)
    offset = np.array((column - (STREETS_A_ROW - 1) / 2, row), dtype=np.float64) * BLOCK_M
    return to_latlng(offset, (settings.latitude, settings.longitude))


def written_pose(settings: StreetSettings, street: int, number: int, camera: NDArray[np.float64]) -> Pose:
    """The pose to write for a true camera (east, north, bearing); the noise has a seed of its own."""
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, street, 2000 + number]))
    place = camera[:2] + settings.gps_sigma_m * rng.standard_normal(2)
    yaw = camera[2] + np.radians(settings.yaw_sigma_deg) * rng.standard_normal()
    return Pose(to_latlng(place, street_origin(settings, street)), float(yaw % (2 * np.pi)))


@dataclass(frozen=True, slots=True)
class ViewFiles:
    """All that is written for one view."""

    street: int
    number: int
    image: Picture
    pose: Pose
    trees: Sequence[Tree]
    annotations: Sequence[Annotation]


def write_view(settings: StreetSettings, root: Path, view: ViewFiles) -> None:
    """Writes one picture and its annotation."""
    name = view_name(view.street, view.number)
    done, data = cv2.imencode(".jpg", view.image, [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality])
    if not done:
        raise OSError(f"OpenCV could not encode {name}.jpg at {view.image.shape[1]}x{view.image.shape[0]}")
    (root / IMAGES / f"{name}.jpg").write_bytes(data.tobytes())
    document = _annotation_xml(settings, view)
    ElementTree.indent(document)
    document.write(root / ANNOTATIONS / f"{name}.xml", encoding="utf-8")


def _annotation_xml(settings: StreetSettings, view: ViewFiles) -> "ElementTree.ElementTree[ElementTree.Element]":
    origin = street_origin(settings, view.street)
    feet = {tree.number: to_latlng(tree.foot.astype(np.float64), origin) for tree in view.trees}
    root = ElementTree.Element("annotation")
    _leaf(root, "filename", f"{view_name(view.street, view.number)}.jpg")
    size = ElementTree.SubElement(root, "size")
    for tag, value in (("width", settings.width), ("height", settings.height), ("depth", 3)):
        _leaf(size, tag, str(value))
    _leaf(root, "panocoords", _degrees(view.pose.latlng))
    _leaf(root, "yaw", f"{view.pose.yaw:.12f}")
    for annotation in view.annotations:
        item = ElementTree.SubElement(root, "object")
        _leaf(item, "name", settings.class_name)
        _leaf(item, "pose", "Unspecified")
        _leaf(item, "truncated", str(int(annotation.truncated)))
        _leaf(item, "difficult", str(int(annotation.difficult)))
        xmin, ymin, xmax, ymax = annotation.box
        box = ElementTree.SubElement(item, "bndbox")
        # VOC counts pixels from 1 and includes the last: only the first corner moves.
        for tag, pixel in (("xmin", xmin + 1), ("ymin", ymin + 1), ("xmax", xmax), ("ymax", ymax)):
            _leaf(box, tag, str(pixel))
        _leaf(item, "ID", str(view.street * IDS_PER_STREET + annotation.tree))
        _leaf(item, "location", _degrees(feet[annotation.tree]))
    return ElementTree.ElementTree(root)


def _leaf(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


def _degrees(latlng: NDArray[np.float64]) -> str:
    return f"{latlng[0]:.10f},{latlng[1]:.10f}"


def split_streets(settings: StreetSettings) -> dict[str, list[int]]:
    """Streets of train, val and test: a random partition."""
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 3000, 7]))
    order = [int(street) for street in rng.permutation(settings.streets)]
    train, val, _ = settings.split_sizes()
    parts = {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}
    return {split: sorted(streets) for split, streets in parts.items()}


def write_pairs(settings: StreetSettings, root: Path) -> None:
    """Writes the lists of pairs: consecutive views of the streets of every split, and the few of each."""
    for split, streets in split_streets(settings).items():
        pairs = [
            f"{view_name(street, number)} {view_name(street, number + 1)}"
            for street in streets
            for number in range(settings.panoramas_per_street - 1)
        ]
        first = min(1, max(0, len(pairs) - FEW[split]))
        few = pairs[first : first + FEW[split]]
        for name, lines in ((split, pairs), (f"{split}_few", few)):
            (root / PAIRS / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_folders(root: Path) -> None:
    """Makes the folders of a data set."""
    for folder in (IMAGES, ANNOTATIONS, PAIRS):
        (root / folder).mkdir(parents=True, exist_ok=True)
