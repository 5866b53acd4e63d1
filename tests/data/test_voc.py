"""Reading of paired VOC data: pairs, folders, and what a reader returns."""

import os
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from crossview.data import parsing
from crossview.data.errors import DataError
from tests.data.make_voc import ANNOTATIONS, IMAGE_SETS, IMAGES, Item, View, write_pair_dataset, write_sets, write_view
from tests.data.read_voc import read, read_items, with_view


def test_a_valid_data_set_is_read_completely_and_without_remarks(tmp_path):
    root = write_pair_dataset(tmp_path / "data", pairs=3, size=(128, 64), objects=5, seed=1)
    found = read(root, location_order="lat_lng")
    assert found.pairs == [(0, 1), (2, 3), (4, 5)]
    assert found.notices == []
    for first, second in found.pairs:
        one, two = found.views[first], found.views[second]
        assert (one.view, two.view) == (f"train{first // 2:03d}_z1", f"train{first // 2:03d}_z2")
        assert one.image.is_file()
        assert one.source.is_file()
        assert (one.width, one.height) == (128, 64)
        assert len(set(one.ids) & set(two.ids)) >= 2
        for view in (one, two):
            assert view.has_id.all()
            assert view.has_location.all()
            assert ((view.boxes[:, 2:] - view.boxes[:, :2]) >= 1).all()
        both = one.locations[np.isin(one.ids, two.ids)], two.locations[np.isin(two.ids, one.ids)]
        np.testing.assert_array_equal(*both)


def test_types_and_shapes(tmp_path):
    view, _ = read_items(tmp_path, Item(id=7, location="34.157137,-118.165071"), Item())
    expected = {
        "boxes": ((2, 4), np.float64),
        "labels": ((2,), np.int64),
        "ids": ((2,), np.int64),
        "has_id": ((2,), np.bool_),
        "difficult": ((2,), np.bool_),
        "truncated": ((2,), np.bool_),
        "locations": ((2, 2), np.float64),
        "has_location": ((2,), np.bool_),
    }
    assert {name: (getattr(view, name).shape, getattr(view, name).dtype) for name in expected} == expected
    assert isinstance(view.width, int)
    assert isinstance(view.yaw, float)
    assert view.position == (34.156992, -118.165118)


def test_a_view_without_objects_has_empty_arrays(tmp_path):
    view, notices = read_items(tmp_path)
    assert view.boxes.shape == (0, 4)
    assert view.locations.shape == (0, 2)
    assert view.labels.shape == view.ids.shape == view.has_id.shape == (0,)
    assert notices == []


def test_every_view_is_parsed_once(tmp_path, monkeypatch):
    names = ["a", "b", "c"]
    for name in names:
        write_view(tmp_path, name, View([Item(id=1)]))
    write_sets(tmp_path, {"train": [("a", "b"), ("b", "c"), ("c", "a")], "val": [("b", "a")]})
    parsed = []
    parse = parsing._parse

    def spy(key, read):
        parsed.append(key)
        return parse(key, read)

    monkeypatch.setattr(parsing, "_parse", spy)
    found = read(tmp_path, ["train", "val"])
    assert found.pairs == [(0, 1), (1, 2), (2, 0), (1, 0)]
    assert [view.view for view in found.views] == names
    assert len(parsed) == 3


def test_a_pair_listed_twice_is_read_once(tmp_path):
    for name in "ab":
        write_view(tmp_path, name, View())
    write_sets(tmp_path, {"train": [("a", "b"), ("a", "b")]})
    found = read(tmp_path)
    assert found.pairs == [(0, 1)]
    assert "train.txt:2" in found.notices[0]


def make_two_folders(root: Path, images=("one", "two"), annotations=("xml1", "xml2"), sets=("sets1", "sets2")) -> None:
    """Views a, b in the first folders, c, d in the second ones; each image set names the views of its folders."""
    for number, names in enumerate(("ab", "cd")):
        for name in names:
            write_view(root, name, View([Item(id=ord(name))]))
            for old, folders, suffix in ((IMAGES, images, "jpg"), (ANNOTATIONS, annotations, "xml")):
                new = root / folders[number % len(folders)] / f"{name}.{suffix}"
                new.parent.mkdir(exist_ok=True)
                (root / old / f"{name}.{suffix}").rename(new)
        write_sets(root, {"train": [(names[0], names[1])]})
        new = root / sets[number % len(sets)] / ("train.txt" if len(sets) > 1 else f"train{number}.txt")
        new.parent.mkdir(exist_ok=True)
        (root / IMAGE_SETS / "train.txt").rename(new)


@pytest.mark.parametrize(
    ("images", "annotations", "sets", "names"),
    [
        (["one", "two"], ["xml1", "xml2"], ["sets1", "sets2"], "train"),  # zipped
        (["one"], ["xml1", "xml2"], ["sets1", "sets2"], "train"),  # one for all
        (["one", "two"], ["xml1"], ["sets1", "sets2"], "train"),
        (["one", "two"], ["xml1", "xml2"], ["sets1"], ["train0", "train1"]),  # looked for in all
    ],
)
def test_several_folders_and_sets_at_once(tmp_path, images, annotations, sets, names):
    make_two_folders(tmp_path, images, annotations, sets)
    as_hydra = OmegaConf.create({"images": images, "annotations": annotations, "image_sets": sets, "names": names})
    found = read(
        tmp_path,
        as_hydra.names,
        image_dirs=as_hydra.images,
        annotation_dirs=as_hydra.annotations,
        image_set_dirs=as_hydra.image_sets,
    )
    assert found.pairs == [(0, 1), (2, 3)]
    assert [view.ids.tolist() for view in found.views] == [[ord(name)] for name in "abcd"]


def test_views_of_the_same_name_in_zipped_folders_are_different_views(tmp_path):
    for number in "12":
        write_view(tmp_path, "a", View([Item(id=int(number))]))
        write_view(tmp_path, "b", View())
        write_sets(tmp_path, {"train": [("a", "b")]})
        for old in (IMAGES, ANNOTATIONS, IMAGE_SETS):
            (tmp_path / old).rename(tmp_path / (Path(old).name + number))
    both = {
        "image_dirs": ["Images1", "Images2"],
        "annotation_dirs": ["Annotations_Multi1", "Annotations_Multi2"],
        "image_set_dirs": ["reid_neu1", "reid_neu2"],
    }
    found = read(tmp_path, **both)
    assert found.pairs == [(0, 1), (2, 3)]
    assert [view.ids.tolist() for view in found.views] == [[1], [], [2], []]
    # In one folder for both they would be ambiguous.
    with pytest.raises(DataError, match="several images") as caught:
        read(tmp_path, **(both | {"image_set_dirs": "reid_neu1"}))
    assert "Images1/a.jpg and " in str(caught.value)


def test_a_set_may_be_missing_in_one_of_several_folders(tmp_path):
    make_two_folders(tmp_path)
    (tmp_path / "sets2/train.txt").unlink()
    settings = {"image_dirs": ["one", "two"], "annotation_dirs": ["xml1", "xml2"], "image_set_dirs": ["sets1", "sets2"]}
    found = read(tmp_path, **settings)
    assert found.pairs == [(0, 1)]
    assert "sets2" in found.notices[0]


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".png"])
def test_image_suffixes(tmp_path, suffix):
    write_view(tmp_path, "a", View([Item()]))
    write_view(tmp_path, "b", View())
    write_sets(tmp_path, {"train": [("a", "b")]})
    path = tmp_path / IMAGES / "a.jpg"
    path.rename(path.with_suffix(suffix))
    assert read(tmp_path).views[0].image == path.with_suffix(suffix)


@pytest.mark.parametrize(("order", "expected"), [((".jpg", ".png"), "a.jpg"), ((".png", ".jpg"), "a.png")])
def test_of_several_suffixes_the_first_wins(tmp_path, order, expected):
    with_view(tmp_path, View([Item()]))
    path = tmp_path / IMAGES / "a.jpg"
    path.with_suffix(".png").write_bytes(path.read_bytes())
    assert read(tmp_path, image_suffixes=order).views[0].image.name == expected


def test_names_with_dots_spaces_around_and_signs_of_other_languages(tmp_path):
    for name in ("z2.5", "Bäume-7_z1"):
        write_view(tmp_path, name, View([Item()]))
    write_sets(tmp_path, {"train": [("z2.5", "Bäume-7_z1")]})
    assert [view.view for view in read(tmp_path).views] == ["z2.5", "Bäume-7_z1"]


def test_threads_read_the_same(tmp_path):
    root = write_pair_dataset(tmp_path / "data", pairs=4, seed=2)
    alone, together = (read(root, use_cache=False, workers=workers) for workers in (1, 4))
    assert [view.view for view in alone.views] == [view.view for view in together.views]
    for one, two in zip(alone.views, together.views, strict=True):
        np.testing.assert_array_equal(one.boxes, two.boxes)


@pytest.mark.parametrize(("color", "progress", "shown"), [("1", True, True), ("1", False, False), ("", True, False)])
def test_a_bar_is_shown_on_a_terminal_only(tmp_path, monkeypatch, capfd, color, progress, shown):
    monkeypatch.setenv("FORCE_COLOR", color)  # rich takes the output for a terminal
    monkeypatch.setattr("crossview.data.parsing._BAR_FROM", 1)
    root = write_pair_dataset(tmp_path / "data", pairs=1)
    read(root, progress=progress)
    output = capfd.readouterr()
    assert ("Reading annotations" in output.err) == shown
    assert output.out == ""


def test_relative_roots_and_home(tmp_path, monkeypatch):
    write_pair_dataset(tmp_path / "data", pairs=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    absolute = read(tmp_path / "data").views[0].image
    assert read("data").views[0].image == absolute == read("~/data").views[0].image
    assert os.path.isabs(absolute)  # noqa: PTH117
