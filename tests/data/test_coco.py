"""COCO files: boxes, sparse categories, crowds, and what is said of a file that is wrong."""

from typing import Any

import pytest

from crossview.data.coco import CocoReader
from crossview.data.errors import DataError
from crossview.data.photos import ImageAnnotations
from tests.data.make_photos import coco_content, write_coco, write_photo


def read(root, sets="train", names=("cat", "dog"), **settings) -> ImageAnnotations:
    values: dict[str, Any] = {"image_dirs": "images", "use_cache": False, **settings}
    return CocoReader(root, names, **values).read(sets)


def message(root, sets="train", **settings) -> str:
    with pytest.raises(DataError) as caught:
        read(root, sets, **settings)
    return str(caught.value)


def box(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 10, "category_id": 17, "bbox": [4, 5, 10.5, 20], "iscrowd": 0, **changes}


def test_boxes_categories_and_crowds(tmp_path):
    annotations = [box(), box(category_id=3, bbox=[0, 0, 40, 30], iscrowd=1)]
    write_coco(tmp_path, content=coco_content(annotations=annotations))
    found = read(tmp_path, names=("dog", "cat"))
    assert [view.view for view in found.views] == ["0", "1"]
    first, second = found.views
    assert first.boxes.tolist() == [[4, 5, 14.5, 25], [0, 0, 40, 30]]
    assert first.labels.tolist() == [2, 1]
    assert first.difficult.tolist() == [False, True]
    assert second.boxes.shape == (0, 4), "an image without annotations is a background image"
    assert found.notices == []


def test_images_may_lie_in_folders_and_in_several_places(tmp_path):
    content = coco_content(images=[{"id": 10, "file_name": "a/b.jpg"}, {"id": 11, "file_name": "c.jpg"}])
    write_coco(tmp_path, content=content)
    write_photo(tmp_path / "images/a/b.jpg")
    write_photo(tmp_path / "more/c.jpg")
    assert [view.view for view in read(tmp_path, image_dirs=["images", "more"]).views] == ["b", "c"]


def test_a_file_may_be_split(tmp_path):
    write_coco(tmp_path, "all", photos=12)
    settings = {"annotation_files": "annotations/all.json"}
    parts = [{view.view for view in read(tmp_path, part, **settings).views} for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12
    assert parts[0]
    assert parts[2]
    assert "does not exist" in message(tmp_path, annotation_files="none.json")


def test_several_sets_are_read_together(tmp_path):
    write_coco(tmp_path, "one", coco_content(1))
    write_coco(tmp_path, "two", coco_content(images=[{"id": 10, "file_name": "1.jpg"}], annotations=[]))
    assert len(read(tmp_path, ["one", "two.json", "one"]).views) == 2
    write_coco(tmp_path, "two", coco_content(1))
    text = message(tmp_path, ["one", "two"])
    assert "an image in several annotation files" in text
    assert "one.json: images[0]" in text
    assert "two.json: images[0]" in text


# what is wrong in the file -> parts of the message
FAULTS: dict[str, tuple[Any, list[str]]] = {
    "malformed": ('{"images": [}', ["train.json:1: malformed JSON at column 13"]),
    "no object": ("[]", ["no list 'images'"]),
    "no categories": ('{"images": [], "annotations": []}', ["no list 'categories'", "found images, annotations"]),
    "no images": (coco_content(images=[], annotations=[]), ["lists no images"]),
    "no file name": (coco_content(images=[{"id": 10}], annotations=[]), ["images[0]: id 10, file_name None"]),
    "image is a number": (coco_content(images=[5], annotations=[]), ["images[0] is 5"]),
    "image id twice": (
        coco_content(images=[{"id": 1, "file_name": "0.jpg"}, {"id": 1, "file_name": "1.jpg"}], annotations=[]),
        ["images[1]: id 1, file_name '1.jpg'"],
    ),
    "file name twice": (
        coco_content(images=[{"id": 1, "file_name": "0.jpg"}, {"id": 2, "file_name": "0.jpg"}], annotations=[]),
        ["images[1]: id 2, file_name '0.jpg'"],
    ),
    "image not there": (
        coco_content(images=[{"id": 1, "file_name": "gone.jpg"}], annotations=[]),
        ["an image that is not there", "images[0]: gone.jpg"],
    ),
    "category without name": (coco_content(categories=[{"id": 17}]), ["categories[0]: id 17, name None"]),
    "other image": (coco_content(annotations=[box(image_id=99)]), ["annotations[0]: image_id is 99"]),
    "other category": (coco_content(annotations=[box(category_id=4)]), ["annotations[0]: category_id is 4"]),
    "no box": (coco_content(annotations=[box(bbox=None)]), ["annotations[0]: bbox is None"]),
    "short box": (coco_content(annotations=[box(), box(bbox=[1, 2, 3])]), ["annotations[1]: bbox is [1, 2, 3]"]),
    "infinite box": (coco_content(annotations=[box(bbox=[1, 2, 3, float("inf")])]), ["annotations[0]: bbox is"]),
    "endless number in a box": (coco_content(annotations=[box(bbox=[10**400, 2, 3, 4])]), ["annotations[0]: bbox is"]),
    "text in a box": (coco_content(annotations=[box(bbox=[1, 2, 3, "4"])]), ["annotations[0]: bbox is"]),
    "no width": (coco_content(annotations=[box(bbox=[1, 2, 0, 4])]), ["a box without area", "annotations[0]: cat"]),
    "unknown class": (
        coco_content(categories=[{"id": 17, "name": "Cat"}]),
        ["unknown class 'Cat' (did you mean cat?)", "annotations[0]", "annotations[1]"],
    ),
}


@pytest.mark.parametrize(("content", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_is_wrong_is_reported_with_the_place(tmp_path, content, expected):
    write_coco(tmp_path, content=content)
    text = message(tmp_path)
    assert "train.json" in text
    for part in expected:
        assert part in text


def test_degenerate_boxes_may_be_dropped_and_others_are_clipped(tmp_path):
    annotations = [box(bbox=[1, 2, 0, 4]), box(bbox=[-2, 3, 12, 40])]
    write_coco(tmp_path, content=coco_content(annotations=annotations))
    found = read(tmp_path, degenerate_boxes="drop")
    assert found.views[0].boxes.tolist() == [[0, 3, 10, 30]]
    assert any("boxes without area were dropped" in notice for notice in found.notices)
    assert "expected 0 <= xmin" in message(tmp_path, degenerate_boxes="drop", boxes_outside="raise")


def test_a_file_in_another_encoding_is_refused(tmp_path):
    write_coco(tmp_path).write_bytes(b'{"images": "\xff"}')
    assert "not UTF-8" in message(tmp_path)


def test_missing_files_say_what_is_there(tmp_path):
    write_coco(tmp_path)
    text = message(tmp_path, "val")
    assert "val.json does not exist" in text
    assert "train" in text
    assert "image_dirs: the folder" in message(tmp_path, image_dirs="pictures")
    write_photo(tmp_path / "more/0.jpg")
    assert "an image in several image folders" in message(tmp_path, image_dirs=["images", "more"])


def test_a_second_start_reads_the_same_from_the_cache(tmp_path):
    write_coco(tmp_path / "data")
    settings = {"use_cache": True, "cache_dir": tmp_path / "cache"}
    first, second = (read(tmp_path / "data", **settings) for _ in range(2))
    assert [view.boxes.tolist() for view in first.views] == [view.boxes.tolist() for view in second.views]
    write_coco(tmp_path / "data", content=coco_content(annotations=[box(bbox=[1, 1, 2, 2])]))
    assert read(tmp_path / "data", **settings).views[0].boxes.tolist() == [[1, 1, 3, 3]]
