"""Missing folders, sets and files, and settings without meaning: what the user is told."""

import stat

import pytest

from crossview.data.errors import SHOWN, Problems
from crossview.data.voc import PairedVocReader
from tests.data.make_voc import ANNOTATIONS, IMAGE_SETS, IMAGES, Item, View, write_pair_dataset, write_sets
from tests.data.read_voc import message, with_view

FOLDERS = {
    "root": ({}, "", ["root: the folder {root} does not exist", "contains: data, somewhere"]),
    "image_dirs": ({"image_dirs": "Imgs"}, None, ["image_dirs: the folder {root}/Imgs", "contains: Images, VOC"]),
    "annotation_dirs": (
        {"annotation_dirs": "VOC/Pasadena/Annotations/deeper"},
        None,
        [
            "annotation_dirs: the folder {root}/VOC/Pasadena/Annotations/deeper",
            "{root}/VOC/Pasadena contains: Annotations_Multi",
        ],
    ),
    "image_set_dirs": (
        {"image_set_dirs": "VOC/Pasadena/ImageSets/Main/reid"},
        None,
        ["image_set_dirs: the folder {root}/VOC/Pasadena/ImageSets/Main/reid", "contains: reid_neu"],
    ),
    "one of a list": ({"image_dirs": ["Images", "more"]}, None, ["image_dirs: the folder {root}/more"]),
    "a file": ({"image_dirs": "Images/a.jpg"}, None, ["image_dirs: {root}/Images/a.jpg is a file; expected a folder"]),
}


@pytest.mark.parametrize(("settings", "where", "expected"), FOLDERS.values(), ids=FOLDERS)
def test_missing_folders(tmp_path, settings, where, expected):
    root = tmp_path / "data"
    with_view(root, View())
    (tmp_path / "somewhere").mkdir()
    asked = root if where is None else tmp_path / "dat"
    found = message(asked, **settings)
    for part in expected:
        assert part.format(root=asked) in found


@pytest.mark.parametrize("name", ["trian", "trian.txt"])
def test_a_missing_image_set_lists_those_there_are(tmp_path, name):
    root = write_pair_dataset(tmp_path / "data", pairs=1)
    found = message(root, name)
    assert f"{root / IMAGE_SETS / 'trian.txt'} does not exist" in found
    assert found.endswith("test, test_few, train, train_few, val, val_few")
    assert message(root, ["train", name]) == found


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_image_set(tmp_path, content):
    with_view(tmp_path, View())
    path = tmp_path / IMAGE_SETS / "val.txt"
    path.write_text(content)
    found = message(tmp_path, "val")
    assert found.startswith(f"{path}: the image set has no pairs")
    assert "train, val" in found


def test_no_image_set(tmp_path):
    with_view(tmp_path, View())
    assert "no image set was named" in message(tmp_path, [])


@pytest.mark.parametrize(("folder", "suffix", "what"), [(IMAGES, ".jpg", "image"), (ANNOTATIONS, ".xml", "annotation")])
def test_ids_without_file(tmp_path, folder, suffix, what):
    root = write_pair_dataset(tmp_path / "data", pairs={"train": 9})
    for number in range(8):
        (root / folder / f"train{number:03d}_z1{suffix}").unlink()
        (root / folder / f"train{number:03d}_z2{suffix}").unlink()
    found = message(root)
    assert "16 faults" in found
    assert f"a view without {what}: expected <view>" in found
    assert str(root / folder) in found
    assert f"{root / IMAGE_SETS / 'train.txt'}:1: 'train000_z1'" in found
    assert found.count("train.txt:") == SHOWN
    assert "... and 6 more" in found


def test_ids_with_suffix_get_a_hint(tmp_path):
    with_view(tmp_path, View())
    write_sets(tmp_path, {"train": [("a.jpg", "b.jpg")]})
    assert "'a.jpg' (leave the suffix out)" in message(tmp_path)


def test_lines_of_image_sets(tmp_path):
    with_view(tmp_path, View())
    path = tmp_path / IMAGE_SETS / "train.txt"
    path.write_text("a b\na a\nb\n")
    found = message(tmp_path)
    assert "2 faults" in found
    assert f"{path}:2: found 'a a'" in found
    assert f"{path}:3: found 'b'" in found


SETTINGS = {
    "location_order": (
        {"location_order": "lnglat"},
        "location_order is 'lnglat'; expected one of auto, lat_lng, lng_lat",
    ),
    "yaw_unit": ({"yaw_unit": "deg"}, "yaw_unit is 'deg'; expected one of radians, degrees"),
    "boxes_outside": ({"boxes_outside": "cut"}, "boxes_outside is 'cut'; expected one of raise, clip, drop"),
    "degenerate_boxes": ({"degenerate_boxes": "clip"}, "degenerate_boxes is 'clip'; expected one of raise, drop"),
    "duplicate_ids": ({"duplicate_ids": "drop"}, "duplicate_ids is 'drop'; expected one of raise, forget"),
    "unknown_class": ({"unknown_class": "drop"}, "unknown_class is 'drop'; expected one of raise, ignore"),
    "no classes": ({"names": []}, "class_names is empty"),
    "a class twice": ({"names": ["tree", "pole", "tree"]}, "class_names has tree more than once"),
    "background": ({"names": ["Background", "tree"]}, "list foreground classes only"),
    "include": ({"include_classes": ["car", "tree"]}, "include_classes has car; expected only names of class_names"),
    "empty list": ({"image_dirs": []}, "image_dirs is empty"),
    "lengths": (
        {"image_set_dirs": ["a", "b", "c"], "image_dirs": ["a", "b"]},
        "image_dirs has 2 folders for 3 image_set_dirs; give 1 or 3",
    ),
    "suffix": ({"image_suffixes": ["jpg"]}, "image_suffixes has jpg; expected suffixes with a dot"),
}


@pytest.mark.parametrize(("settings", "expected"), SETTINGS.values(), ids=SETTINGS)
def test_settings_without_meaning(tmp_path, settings, expected):
    with_view(tmp_path, View())
    assert expected in message(tmp_path, **settings)


def test_nothing_is_written_into_the_data(tmp_path):
    root = tmp_path / "data"
    with_view(root, View([Item()]))

    def files():
        return {path: path.stat().st_mtime_ns for path in root.rglob("*") if stat.S_ISREG(path.stat().st_mode)}

    before = files()
    PairedVocReader(root, ["tree"]).read("train")
    message(root, names=["pole"])
    assert files() == before


def test_problems_without_faults_raise_nothing(tmp_path):
    Problems(tmp_path).raise_if_any()
