import pytest
from torchvision.models._meta import _COCO_CATEGORIES, _VOC_CATEGORIES

from crossview.build import ConfigError
from crossview.detector.transfer.classes import COCO, VOC, match_classes, source_names


def test_lists_are_the_published_ones():
    assert list(source_names("coco", 90)) == _COCO_CATEGORIES[1:]
    assert list(source_names("coco", 80)) == [name for name in _COCO_CATEGORIES[1:] if name != "N/A"]
    assert list(source_names("voc", 20)) == _VOC_CATEGORIES[1:]
    # Outputs that the weight sampling tutorial of ssd_keras picks, background being 0.
    picked = {"person": 1, "bicycle": 2, "car": 3, "motorcycle": 4, "bus": 6, "truck": 8, "traffic light": 10}
    assert {name: 1 + COCO.index(name) for name in picked} == picked
    assert len(COCO) == 80
    assert len(VOC) == 20


def test_own_lists():
    assert source_names(["a", "b"], 2) == ("a", "b")


@pytest.mark.parametrize(
    ("classes", "count", "message"),
    [
        ("cocoa", 80, "found 'cocoa', expected voc, coco or a list"),
        ("coco", 20, "found 80 or 90 names, but the file's class heads have 20"),
        ("voc", 21, "found 20 names, but the file's class heads have 21"),
        (["background", "a"], 1, "found 2 names, but the file's class heads have 1"),
        ([], 1, "found 0 names"),
    ],
)
def test_names_that_do_not_fit(classes, count, message):
    with pytest.raises(ConfigError, match=rf"init\.source_classes: {message}"):
        source_names(classes, count)


@pytest.mark.parametrize(
    ("mine", "class_map", "expected"),
    [
        (["b", "a"], {}, (1, 0)),  # equal names, another order
        (["tree", "b"], {"tree": "c"}, (2, 1)),  # a map beside an equal name
        (["x", "y"], {"x": "a", "y": "a"}, (0, 0)),  # one source for two
        (["a", "new"], {}, (0, None)),  # no source: random
        (["a", "b"], {"a": "b"}, (1, 1)),  # the map wins over the equal name
        (["a", "b"], {"b": None}, (0, None)),  # random on purpose
        (["x"], {"x": None}, (None,)),  # all of them random on purpose
    ],
)
def test_sources_of_classes(mine, class_map, expected):
    assert match_classes(mine, ["a", "b", "c"], class_map) == expected


@pytest.mark.parametrize(
    ("mine", "class_map", "message"),
    [
        (["tree"], {"treee": "a"}, r"'treee' is none of the classes \(tree; did you mean tree\?\)"),
        (["tree"], {"tree": "d"}, r"class_map\.tree: 'd' is none of the file's classes \(a, b, c\)"),
        (["tree"], {}, r"none of the classes \(tree\) is among the file's.*class_map=\{tree: a\}"),
        (["tree", "sign"], {"tree": None}, "random start"),
    ],
)
def test_maps_that_do_not_fit(mine, class_map, message):
    with pytest.raises(ConfigError, match=message):
        match_classes(mine, ["a", "b", "c"], class_map)


def test_long_lists_are_searched_for_similar_names():
    with pytest.raises(ConfigError, match=r"\(80, among them potted plant\)"):
        match_classes(["tree"], COCO, {"tree": "pottedplant"})
