"""Writes small data sets of photos in the layouts of VOC, COCO and CSV files, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tests.data.make_voc import Item

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIZE = (40, 30)  # width, height


def write_photo(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> Path:
    """Write an image of noise on a grey ground."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(90, 150, (size[1], size[0], 3)).astype(np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def write_xml(path: Path, items: Sequence[Item] = (Item(),), size: tuple[int, int] = SIZE, extra: str = "") -> Path:
    """Write a VOC annotation without any pose; the first object is on line 4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        "<annotation><filename>something_else.jpg</filename>",
        f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>",
        extra,
        *(item.xml() for item in items),
        "</annotation>",
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_year(root: Path, year: str, sets: Mapping[str, Sequence[str]], items: Sequence[Item] = (Item(),)) -> Path:
    """Write a year of VOC (or a root of one year if ``year`` is "."): image sets by name, with their images."""
    folder = root / year
    for name, lines in sets.items():
        path = folder / "ImageSets" / "Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        for line in lines:
            write_photo(folder / "JPEGImages" / f"{line.split()[0]}.jpg")
            write_xml(folder / "Annotations" / f"{line.split()[0]}.xml", items)
    return root


def write_folder(root: Path, count: int, items: Sequence[Item] = (Item(),)) -> Path:
    """Write images and annotations without any image set."""
    for number in range(count):
        write_photo(root / "images" / f"photo-{number}.jpg", seed=number)
        write_xml(root / "annotations" / f"photo-{number}.xml", items)
    return root


def coco_content(count: int = 2, **changes: Any) -> dict[str, Any]:
    """A COCO file of photos 0.jpg, 1.jpg ... with a cat each; categories have gaps."""
    return {
        "images": [{"id": 10 + n, "file_name": f"{n}.jpg", "width": 40, "height": 30} for n in range(count)],
        "annotations": [
            {"id": n, "image_id": 10 + n, "category_id": 17, "bbox": [4, 5, 10.5, 20], "iscrowd": 0}
            for n in range(count)
        ],
        "categories": [{"id": 3, "name": "dog"}, {"id": 17, "name": "cat"}],
        **changes,
    }


def write_coco(root: Path, name: str = "train", content: Any = None, photos: int = 2) -> Path:
    """Write ``annotations/<name>.json`` and the photos in ``images``; text is written as it is."""
    for number in range(photos):
        write_photo(root / "images" / f"{number}.jpg", seed=number)
    path = root / "annotations" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = coco_content(photos) if content is None else content
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


CSV_HEADER = "image_name,xmin,xmax,ymin,ymax,class_id"


def write_csv(root: Path, *lines: str, name: str = "train", header: str = CSV_HEADER, photos: int = 2) -> Path:
    """Write ``<name>.csv`` and the photos 0.jpg, 1.jpg ... in ``images``."""
    for number in range(photos):
        write_photo(root / "images" / f"{number}.jpg", seed=number)
    path = root / f"{name}.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


# Choice of the config group `data`: what has to be set for the files of `write_every_layout`.
PHOTO_CONFIGS = {
    "voc": ["data.class_names=[tree]"],
    "coco": ["data.image_dirs=images", "data.train_set=train", "data.val_set=train", "data.test_set=train"],
    "csv": ["data.class_names=[tree]", "data.annotation_files=train.csv"],
}


def write_every_layout(root: Path) -> Path:
    """Write files for every data config of photos, in a folder of its name."""
    write_folder(root / "voc", 12)
    write_coco(root / "coco")
    write_csv(root / "csv", *(f"{number}.jpg,4,14,5,25,tree" for number in range(12)), photos=12)
    return root
