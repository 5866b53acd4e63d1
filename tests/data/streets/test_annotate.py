"""Boxes against the geometry that they must follow: a street is rendered and its trees are placed by their boxes."""

import numpy as np
import pytest

from crossview.data.streets.annotate import annotate_view
from crossview.data.streets.canvas import Canvas
from crossview.data.streets.light import draw_light
from crossview.data.streets.projection import Panorama
from crossview.data.streets.render import render_view
from crossview.data.streets.settings import StreetSettings
from crossview.data.streets.species import SPECIES
from crossview.data.streets.trees import grow_tree
from crossview.data.streets.world import build_street

SETTINGS = StreetSettings(width=2048)
RADIAN = SETTINGS.width / (2 * np.pi)


@pytest.fixture(scope="module")
def views():
    """The street, and for six of its views the canvas and the annotations by tree."""
    street = build_street(SETTINGS, 4)
    rendered = {}
    for number in range(6):
        canvas = render_view(SETTINGS, street, number)
        rendered[number] = canvas, {a.tree: a for a in annotate_view(SETTINGS, canvas, street.trees)}
    return street, rendered


def stands_free(canvas, tree, annotation):
    """Nothing hides the tree, its foot least of all, and no border cuts it."""
    x, y, _ = canvas.camera.project(tree.base)
    foot = canvas.owner[int(y) - 2 : int(y) + 1, int(x) % SETTINGS.width]
    return annotation.visible > 0.9 and not annotation.truncated and bool((foot == tree.number).any())


def ground_point(camera, box):
    bearing = camera[2] - np.pi + (box[0] + box[2]) / 2 / RADIAN
    distance = SETTINGS.camera_height_m / np.tan((box[3] - SETTINGS.height / 2) / RADIAN)
    return distance, camera[:2] + distance * np.array((np.sin(bearing), np.cos(bearing)))


def placed_box(camera, box, other):
    """The box of one view in another: foot on flat ground, height and width in metres kept."""
    distance, place = ground_point(camera, box)
    top = distance * np.tan((SETTINGS.height / 2 - box[1]) / RADIAN)
    wide = distance * (box[2] - box[0]) / RADIAN
    offset = place - other[:2]
    away = np.hypot(*offset)
    x = ((np.arctan2(*offset) - other[2] + np.pi) % (2 * np.pi)) * RADIAN
    half = wide / away * RADIAN / 2
    rows = SETTINGS.height / 2 - np.arctan2((top, -SETTINGS.camera_height_m), away) * RADIAN
    return x - half, rows[0], x + half, rows[1]


def iou(a, b):
    best = 0.0
    for turn in (-SETTINGS.width, 0, SETTINGS.width):
        wide = min(a[2] + turn, b[2]) - max(a[0] + turn, b[0])
        tall = min(a[3], b[3]) - max(a[1], b[1])
        if wide > 0 and tall > 0:
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * tall
            best = max(best, wide * tall / union)
    return best


def test_foot_of_a_free_box_is_the_trees_place(views):
    street, rendered = views
    trees = {tree.number: tree for tree in street.trees}
    errors = []
    for number, (canvas, found) in rendered.items():
        for tree, annotation in found.items():
            away = float(np.hypot(*(trees[tree].foot - street.cameras[number][:2])))
            if away < 18 and stands_free(canvas, trees[tree], annotation):
                errors.append(np.hypot(*(ground_point(street.cameras[number], annotation.box)[1] - trees[tree].foot)))
    assert len(errors) > 15
    assert np.median(errors) < 0.4
    assert np.quantile(errors, 0.95) < 1.0


def test_boxes_of_two_views_agree_on_flat_ground(views):
    street, rendered = views
    trees = {tree.number: tree for tree in street.trees}
    overlaps = []
    for first, second in [(a, a + 1) for a in range(5)] + [(a + 1, a) for a in range(5)]:
        (canvas_1, found_1), (canvas_2, found_2) = rendered[first], rendered[second]
        for tree in found_1.keys() & found_2.keys():
            if stands_free(canvas_1, trees[tree], found_1[tree]) and stands_free(canvas_2, trees[tree], found_2[tree]):
                placed = placed_box(street.cameras[first], found_1[tree].box, street.cameras[second])
                overlaps.append(iou(placed, found_2[tree].box))
    assert len(overlaps) > 20
    assert np.mean(np.array(overlaps) > 0.5) >= 0.97


def test_boxes_hold_what_the_settings_promise(views):
    for canvas, found in views[1].values():
        assert 3 <= len(found) <= 25
        for annotation in found.values():
            xmin, ymin, xmax, ymax = annotation.box
            assert 0 <= xmin < xmax <= SETTINGS.width
            assert 0 <= ymin < ymax <= SETTINGS.height
            height = (ymax - ymin) * 600 / SETTINGS.width
            assert height >= SETTINGS.min_height_px
            assert annotation.visible >= SETTINGS.min_visible
            assert annotation.difficult == (annotation.visible < 0.4 or height < SETTINGS.small_height_px)
            inside = canvas.owner[ymin:ymax, xmin:xmax] == annotation.tree
            # tight: the tree reaches every side, and hardly a pixel of it lies outside
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()
            if not annotation.truncated:
                assert inside.sum() > 0.97 * (canvas.owner == annotation.tree).sum()


def tree_and_canvas(away):
    """A tree at (0, 0) and an empty canvas of 1024x512 taken from a distance in metres."""
    rng = np.random.default_rng(0)
    light = draw_light(rng, 0)
    tree = grow_tree(rng, 1, np.zeros(2), SPECIES[0], "summer", light, 3.0)
    picture, owner = np.zeros((512, 1024, 3), dtype=np.uint8), np.zeros((512, 1024), dtype=np.uint16)
    return tree, Canvas(Panorama(away, 0.0, 3.0, 0.0, 1024), light, picture, owner)


def paint_square(canvas, tree, left, top, width, height):
    colours = np.zeros((height, width, 3), dtype=np.uint8)
    canvas.paste(left, top, colours, np.ones((height, width), dtype=bool), tree)


@pytest.mark.parametrize(
    ("squares", "expected"),
    [
        # (left, top, width, height) of tree 1, then of what hides it; box, difficult, truncated
        ([(300, 300, 40, 80)], ((300, 300, 340, 380), False, False)),
        ([(300, 300, 40, 80), (300, 300, 40, 40)], ((300, 340, 340, 380), False, False)),  # half hidden
        ([(300, 300, 40, 80), (300, 300, 40, 55)], ((300, 355, 340, 380), True, False)),  # 31 % visible
        ([(300, 300, 40, 80), (300, 300, 40, 75)], None),  # 6 % visible
        ([(300, 300, 40, 80), (300, 300, 26, 80)], ((326, 300, 340, 380), True, False)),  # 35 % visible
        ([(300, 300, 10, 16)], None),  # 9 pixels on a panorama of 600 columns
        ([(-10, 300, 40, 80)], ((0, 300, 30, 380), False, True)),  # the larger part is right of the seam
        ([(994, 300, 40, 80)], ((994, 300, 1024, 380), False, True)),  # the larger part is left of the seam
        ([(984, 300, 40, 80)], ((984, 300, 1024, 380), False, False)),  # touches the border, is not cut
        ([(1014, 300, 40, 80)], ((0, 300, 30, 380), False, True)),  # a window that starts left of the seam
    ],
)
def test_visible_part_becomes_the_box(squares, expected):
    settings = StreetSettings(width=1024)
    tree, canvas = tree_and_canvas(10.0)
    for number, square in enumerate(squares):
        paint_square(canvas, tree.number if number == 0 else 0, *square)
    found = annotate_view(settings, canvas, [tree])
    assert [(a.box, a.difficult, a.truncated) for a in found] == ([expected] if expected else [])


@pytest.mark.parametrize(("size", "found"), [((1, 80), 0), ((80, 1), 0), ((2, 80), 1), ((80, 2), 1)])
def test_boxes_have_two_pixels_at_least_as_inclusive_corners_tell_no_less(size, found):
    tree, canvas = tree_and_canvas(10.0)
    paint_square(canvas, tree.number, 300, 300, *size)
    settings = StreetSettings(width=1024, min_height_px=0.0)
    assert len(annotate_view(settings, canvas, [tree])) == found


def test_far_trees_are_left_out():
    settings = StreetSettings(width=1024, max_distance_m=9.0)
    for away, count in ((8.9, 1), (9.1, 0)):
        tree, canvas = tree_and_canvas(away)
        paint_square(canvas, tree.number, 300, 300, 40, 80)
        assert len(annotate_view(settings, canvas, [tree])) == count
