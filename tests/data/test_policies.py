"""What the files say and what the settings make of it: everything that is right, or common, in the wild."""

import numpy as np
import pytest

from tests.data.make_voc import ANNOTATIONS, Item, View, write_sets, write_view
from tests.data.read_voc import read, read_items

NEAR = "34.157137,-118.165071"  # 16.7 m away
NEAR_SWAPPED = "-118.165071,34.157137"


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


def test_boxes_over_a_side_go_on_at_the_other(tmp_path):
    wide = Item((-9, 1, 70, 30))  # more than a whole turn: cut off at both sides
    view, notices = read_items(tmp_path, *OUTSIDE.values(), wide, boxes_outside="wrap")
    expected = [(0, 0, 64, 32), (63, 0, 94, 30), (49, 0, 70, 30), (49, 0, 60, 32), (0, 0, 64, 30)]
    np.testing.assert_array_equal(view.boxes, expected)
    place = tmp_path / ANNOTATIONS / "a.xml"
    assert f"2 boxes reach over a side of their panorama and go on at the other one (first: {place}:" in notices[0]
    assert "3 boxes reach outside their image" in notices[1]
    assert "2 were clipped, 1 wholly outside were dropped (boxes_outside=wrap)" in notices[1]


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
