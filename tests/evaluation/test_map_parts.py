"""Pictures of parts of the map."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from numpy.testing import assert_allclose

from crossview.evaluation import map_parts as module
from crossview.evaluation.map_metrics import judge
from crossview.evaluation.map_parts import COLORS, MOST_PARTS, SIDE_M, map_parts
from crossview.evaluation.svg import svg_text
from crossview.geometry.frames import to_latlng, to_local
from tests.evaluation.street import ORIGIN, found, pair


@pytest.fixture
def drawn(monkeypatch):
    """The axes of every part that is drawn."""
    axes = []

    def spy(figure, own):
        axes.append(own)
        return svg_text(figure, own)

    monkeypatch.setattr(module, "svg_text", spy)
    return axes


def parts_of(*scenes):
    objects = found(*scenes)
    return map_parts(objects, judge(objects, scenes), scenes)


def points_of(axes, name):
    """What is drawn as a line in the colour of a name."""
    return [line.get_xydata() for line in axes.lines if line.get_color() == COLORS[name]]


def test_a_street_is_one_part_with_all_that_stands_there(drawn):
    nothing_there = {"labels": (1, 1, 1, 2)}  # of a class that the fourth tree is not
    scene = pair(0, 0, 1, one=nothing_there, two=nothing_there)
    (text,) = parts_of(scene)
    assert text.startswith("<svg")
    (axes,) = drawn
    (cameras,) = points_of(axes, "camera")
    (annotated,) = points_of(axes, "annotated")
    assert len(cameras) == 2
    assert len(annotated) == 3  # the fourth tree's place is not known
    dots = axes.collections[0]
    gaps = np.linalg.norm(dots.get_offsets()[:, None] - annotated, axis=-1)
    is_there = gaps.min(axis=1) < 0.3
    assert is_there.sum() == 3
    assert_allclose(dots.get_facecolors()[is_there], [to_rgba(COLORS["right"])] * 3)
    assert_allclose(dots.get_facecolors()[~is_there], [to_rgba(COLORS["wrong"])])
    assert axes.get_xlim() == axes.get_ylim() == (-SIDE_M / 2, SIDE_M / 2)


def test_parts_are_those_with_most_objects():
    rng = np.random.default_rng(0)
    crowds = [(0.0, 0.0, 3), (500.0, 0.0, 9), (0.0, 900.0, 5), *((3000.0, 400.0 * number, 2) for number in range(9))]
    metres = np.concatenate([np.array(middle) + rng.uniform(-20, 20, (count, 2)) for *middle, count in crowds])
    middles = np.array(module._middles(to_latlng(metres, ORIGIN)))
    assert len(middles) == MOST_PARTS
    assert_allclose(to_local(middles[:3], ORIGIN), [[500, 0], [0, 900], [0, 0]], atol=20)


def test_what_is_shown_already_does_not_count_again():
    # A crowd of 30 that is a little longer than a square, and one of 8 elsewhere: what the first square leaves of the
    # long one is less than that.
    long = np.stack((np.linspace(0.0, 130.0, 30), np.zeros(30)), axis=1)
    other = np.stack((np.linspace(1000.0, 1050.0, 8), np.zeros(8)), axis=1)
    metres = np.concatenate((long, other))
    middles = to_local(np.array(module._middles(to_latlng(metres, ORIGIN))), ORIGIN)
    assert_allclose(middles[1], [1025, 0], atol=0.1)
    is_inside = np.abs(metres[:, None] - middles).max(axis=-1) <= SIDE_M / 2 + 1e-6
    assert is_inside.any(axis=1).all()
    assert is_inside[:, 0].sum() > 25


def test_an_empty_map_has_no_parts():
    blind = {"seen": ()}
    assert parts_of(pair(0, 0, 1, one=blind, two=blind)) == []
