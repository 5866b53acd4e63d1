"""Reading of paired VOC data: everything that is right, or common, in the wild."""

import os
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from crossview.data import parsing
from crossview.data.errors import DataError
from crossview.data.voc import PairedAnnotations, PairedVocReader
from tests.data.make_voc import ANNOTATIONS, IMAGE_SETS, IMAGES, Item, View, write_pair_dataset, write_sets, write_view

HERE = "34.156992,-118.165118"
NEAR = "34.157137,-118.165071"  # 16.7 m away
NEAR_SWAPPED = "-118.165071,34.157137"


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("CROSSVIEW_CACHE", str(folder))
    return folder


def read(root: Path | str, sets="train", names=("tree", "pole"), **settings) -> PairedAnnotations:
    return PairedVocReader(root, names, **settings).read(sets)


def read_items(root: Path, *items: Item, names=("tree", "pole"), **settings):
    """Annotation of a view with these objects, and the notices. Its partner is empty."""
    write_view(root, "a", View(items))
    write_view(root, "b", View())
    write_sets(root, {"train": [("a", "b")]})
    found = read(root, names=names, **settings)
    return found.views[0], found.notices


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
    view, _ = read_items(tmp_path, Item(id=7, location=NEAR), Item())
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


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ((1, 1, 64, 32), (0, 0, 64, 32)),  # the whole image
        ((11, 6, 30, 25), (10, 5, 30, 25)),  # 20x20 pixels, both ends counted
        ((11.5, 6.25, 30.5, 25), (10.5, 5.25, 30.5, 25)),  # fractions are kept
        (("1e1", " 6 ", "+30", "25."), (9, 5, 30, 25)),  # other ways of writing numbers
    ],
)
def test_boxes_become_zero_based_and_half_open(tmp_path, written, expected):
    view, notices = read_items(tmp_path, Item(written))
    np.testing.assert_array_equal(view.boxes, [expected])
    assert notices == []


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (None, None),  # no tag
        ("", None),  # empty tag
        ("None", None),
        (1523, 1523),
        ("1523.0", 1523),  # a table with empty cells, exported
        (0, 0),  # no number is magic
        (99, 99),
        (-1, -1),
        (2**24 + 1, 2**24 + 1),  # beyond float32
        (2**53 + 1, 2**53 + 1),  # beyond float64
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_identity_is_an_integer_and_a_mask(tmp_path, identity, expected):
    view, _ = read_items(tmp_path, Item(id=identity))
    assert view.has_id.tolist() == [expected is not None]
    if expected is not None:
        assert view.ids.tolist() == [expected]


@pytest.mark.parametrize("text", [None, "", "None", "none", "None,None", " null "])
def test_an_object_may_have_no_location(tmp_path, text):
    view, notices = read_items(tmp_path, Item(location=text))
    assert view.has_location.tolist() == [False]
    assert notices == []  # nothing was there to choose an order from


@pytest.mark.parametrize(
    ("text", "order", "chosen"),
    [
        (NEAR, "lat_lng", None),
        (NEAR_SWAPPED, "lng_lat", None),
        (NEAR, "auto", "lat_lng"),
        (NEAR_SWAPPED, "auto", "lng_lat"),  # decided by the range: no latitude is -118
    ],
)
def test_either_order_of_latitude_and_longitude(tmp_path, text, order, chosen):
    view, notices = read_items(tmp_path, Item(location=text), location_order=order)
    np.testing.assert_array_equal(view.locations, [[34.157137, -118.165071]])
    assert [notice.split(":")[0] for notice in notices] == ([f"location_order=auto chose {chosen}"] if chosen else [])


@pytest.mark.parametrize(
    ("written", "expected"),
    [("47.3702,8.5402", (47.3702, 8.5402)), ("8.5402,47.3702", (47.3702, 8.5402))],
)
def test_auto_order_where_both_orders_are_on_earth(tmp_path, written, expected):
    # Zurich: 8 degrees north, 47 east would be in Ethiopia, 5,000 km from the camera.
    write_view(tmp_path, "a", View([Item(location=written)], panocoords="47.37,8.54"))
    write_view(tmp_path, "b", View(panocoords="47.37,8.54"))
    write_sets(tmp_path, {"train": [("a", "b")]})
    np.testing.assert_array_equal(read(tmp_path).views[0].locations, [expected])


def test_auto_order_is_chosen_for_the_whole_data_set_by_the_majority(tmp_path):
    for name, count, text in (("a", 3, "8.5402,47.3702"), ("b", 1, "47.3702,8.5402")):
        write_view(tmp_path, name, View([Item(location=text)] * count, panocoords="47.37,8.54"))
    write_sets(tmp_path, {"train": [("a", "b")]})
    found = read(tmp_path)
    np.testing.assert_array_equal(found.views[1].locations, [[8.5402, 47.3702]])
    assert "chose lng_lat: 3 of 4" in found.notices[0]
    assert "1 location(s) are more than 1000 m from the camera" in found.notices[1]
    assert "b.xml:5" in found.notices[1]


def test_locations_across_the_date_line_are_near(tmp_path):
    write_view(tmp_path, "a", View([Item(location="-17.0,-179.99995")], panocoords="-17.0,179.99995"))
    write_view(tmp_path, "b", View(panocoords="-17.0,180"))
    write_sets(tmp_path, {"train": [("a", "b")]})
    assert read(tmp_path, location_order="lat_lng").notices == []


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("0.9073966781118519", "radians", 0.9073966781118519),
        ("-3.2", "radians", -3.2),  # not brought into a range
        ("6.5", "radians", 6.5),  # a little beyond a turn happens after corrections
        ("51.98999999", "degrees", 0.9073966779),
        ("-90", "degrees", -np.pi / 2),
        ("719", "degrees", 719 * np.pi / 180),
    ],
)
def test_yaw_in_radians_or_degrees(tmp_path, text, unit, expected):
    write_view(tmp_path, "a", View(yaw=text))
    write_view(tmp_path, "b", View(yaw="0"))
    write_sets(tmp_path, {"train": [("a", "b")]})
    assert read(tmp_path, yaw_unit=unit).views[0].yaw == pytest.approx(expected, abs=1e-9)


def test_small_yaws_in_degrees_mode_are_remarked_on(tmp_path):
    for number in range(10):
        write_view(tmp_path, f"v{number}", View(yaw=f"{number / 2}"))
    write_sets(tmp_path, {"train": [(f"v{number}", f"v{number + 1}") for number in range(9)]})
    assert "yaw_unit=radians" in read(tmp_path, yaw_unit="degrees").notices[0]
    assert read(tmp_path).notices == []


@pytest.mark.parametrize(
    ("stated", "remarks"),
    [
        ((64, 32), 0),
        ((32, 64), 0),  # swapped by the public annotation tool
        ((0, 0), 0),  # as older tools write
        ((128, 64), 1),  # annotated on a larger image
    ],
)
def test_the_image_decides_about_its_size(tmp_path, stated, remarks):
    write_view(tmp_path, "a", View([Item()], size=(64, 32), stated_size=stated))
    write_view(tmp_path, "b", View())
    write_sets(tmp_path, {"train": [("a", "b")]})
    found = read(tmp_path)
    assert (found.views[0].width, found.views[0].height) == (64, 32)
    assert len(found.notices) == remarks
    assert all("a.xml: 128x64, image 64x32" in notice for notice in found.notices)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({}, [1, 2, 1]),
        ({"include_classes": ["pole"]}, [2]),  # labels do not change
        ({"include_classes": []}, [1, 2, 1]),
        ({"include_classes": None, "exclude_classes": None}, [1, 2, 1]),
        ({"exclude_classes": ["pole"]}, [1, 1]),
        ({"exclude_truncated": True}, [1, 2]),
        ({"exclude_classes": ["tree"], "exclude_truncated": True}, [2]),
    ],
)
def test_filters(tmp_path, settings, labels):
    items = Item(), Item(name="pole"), Item(truncated=1)
    view, _ = read_items(tmp_path, *items, **settings)
    assert view.labels.tolist() == labels


@pytest.mark.parametrize(
    "settings", [{"include_classes": ["tree"]}, {"exclude_classes": ["car"]}, {"unknown_class": "ignore"}]
)
def test_unknown_classes_can_be_left_out(tmp_path, settings):
    # The car's other faults do not matter either: it is not read.
    view, notices = read_items(tmp_path, Item((9, 9, 9, 9), "car", "x"), Item(), **settings)
    assert view.labels.tolist() == [1]
    assert len(notices) == ("unknown_class" in settings)
    assert all("1 objects of the unknown class 'car'" in notice for notice in notices)


def test_leaving_everything_out_is_remarked_on(tmp_path):
    _, notices = read_items(tmp_path, Item(), include_classes=["pole"])
    assert "all 1 objects" in notices[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(0, False), (1, True), (None, False), ("", False), ("Unspecified", False), ("true", True), (" 1 ", True)],
)
def test_difficult_and_truncated(tmp_path, text, expected):
    view, _ = read_items(tmp_path, Item(difficult=text), Item(truncated=text))
    assert view.difficult.tolist() == [expected, False]
    assert view.truncated.tolist() == [False, expected]


def test_boxes_of_parts_comments_and_unknown_tags_are_passed_over(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    extra = f"{part}<!-- <name>pole</name> --><pose>Left</pose>"
    view, _ = read_items(tmp_path, Item(name="<!-- x -->tree", extra=extra))
    np.testing.assert_array_equal(view.boxes, [[10, 5, 30, 25]])
    assert view.labels.tolist() == [1]


OUTSIDE = {
    "none": Item((1, 1, 64, 32)),
    "left by one (0-based file)": Item((0, 1, 30, 30)),
    "right": Item((50, 1, 70, 30)),
    "bottom by a fraction": Item((50, 1, 60, 32.5)),
    "wholly": Item((70, 1, 90, 30)),
}


@pytest.mark.parametrize(
    ("policy", "expected", "remark"),
    [
        (
            "clip",
            [(0, 0, 64, 32), (0, 0, 30, 30), (49, 0, 64, 30), (49, 0, 60, 32)],
            "4 boxes reach outside their image (first: {root}/a.xml:6): 3 were clipped, 1 wholly outside were dropped",
        ),
        ("drop", [(0, 0, 64, 32)], "4 boxes outside their image were dropped"),
    ],
)
def test_boxes_outside_the_image(tmp_path, policy, expected, remark):
    view, notices = read_items(tmp_path, *OUTSIDE.values(), boxes_outside=policy)
    np.testing.assert_array_equal(view.boxes, expected)
    assert len(notices) == 1
    assert remark.format(root=tmp_path / ANNOTATIONS) in notices[0]


def test_degenerate_boxes_can_be_dropped(tmp_path):
    items = Item((10, 5, 10, 25)), Item((10, 25, 30, 5)), Item()
    view, notices = read_items(tmp_path, *items, degenerate_boxes="drop")
    assert len(view.boxes) == 1
    assert "2 boxes without area were dropped" in notices[0]


def test_repeated_ids_can_be_forgotten(tmp_path):
    view, notices = read_items(tmp_path, Item(id=5), Item(id=6), Item(id=5), duplicate_ids="forget")
    assert view.has_id.tolist() == [False, True, False]
    assert "2 objects lost an id" in notices[0]


def test_an_id_repeated_by_an_excluded_object_is_fine(tmp_path):
    view, _ = read_items(tmp_path, Item(id=5), Item(name="pole", id=5), exclude_classes=["pole"])
    assert view.ids.tolist() == [5]


def test_every_view_is_parsed_once(tmp_path, monkeypatch):
    names = ["a", "b", "c"]
    for name in names:
        write_view(tmp_path, name, View([Item(id=1)]))
    write_sets(tmp_path, {"train": [("a", "b"), ("b", "c"), ("c", "a")], "val": [("b", "a")]})
    parsed = []
    parse = parsing._parse

    def spy(key):
        parsed.append(key)
        return parse(key)

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
