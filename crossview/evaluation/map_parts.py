"""Parts of the map of an evaluation as SVG text: what stands where, and where it was seen from.

Convention:
    A part is a square, north up, in metres east and north of its middle. Colours say what is right, see `COLORS`.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from numpy.typing import NDArray
from scipy.spatial import KDTree

from crossview.evaluation.map_metrics import JudgedMap
from crossview.evaluation.objects import Floats, MappedObjects
from crossview.evaluation.records import Scene
from crossview.evaluation.scoring import ELLIPSE
from crossview.evaluation.svg import new_figure, svg_text
from crossview.geometry.frames import to_latlng, to_local
from crossview.geometry.location import error_ellipse

SIDE_M = 120.0
MOST_PARTS = 6
COLORS = {"right": "#009e73", "wrong": "#d55e00", "not judged": "#0072b2", "annotated": "#222222", "camera": "#aaaaaa"}


def map_parts(objects: MappedObjects, judged: JudgedMap, scenes: Iterable[Scene]) -> list[str]:
    """The squares with most objects, up to `MOST_PARTS`.

    Args:
        objects: of the map.
        judged: which of them are right.
        scenes: that it was made from.
    """
    cameras = _cameras(scenes)
    known = [judged.places[identity] for identity in judged.counted & judged.places.keys()]
    annotated = np.array(known, np.float64).reshape(-1, 2)
    parts = []
    for middle in _middles(objects.latlng):
        figure, axes = new_figure(f"{middle[0]:.5f}, {middle[1]:.5f}", "metres east", "metres north")
        _draw_points(axes, cameras, middle, "camera", "^", 4.0)
        _draw_objects(axes, objects, judged, middle)
        _draw_points(axes, annotated, middle, "annotated", "+", 6.0)
        axes.set_aspect("equal")
        axes.set_xlim(-SIDE_M / 2, SIDE_M / 2)
        axes.set_ylim(-SIDE_M / 2, SIDE_M / 2)
        parts.append(svg_text(figure, axes))
    return parts


def _cameras(scenes: Iterable[Scene]) -> Floats:
    """Latitude and longitude (V, 2) of all views, each once."""
    found: dict[int, tuple[Sequence[float], tuple[float, float]]] = {}
    for scene in scenes:
        for view in scene.views:
            if view.camera is not None:
                found.setdefault(view.number, (view.camera.position.tolist(), scene.origin))
    positions = np.array([position for position, _ in found.values()], np.float64).reshape(-1, 2)
    return to_latlng(positions, np.array([origin for _, origin in found.values()], np.float64).reshape(-1, 2))


def _middles(latlng: Floats) -> list[Floats]:
    """Middles of squares, each where most of those points (K, 2) are that no earlier one holds."""
    left = to_local(latlng, latlng[0]) if len(latlng) else latlng
    middles: list[Floats] = []
    while len(left) and len(middles) < MOST_PARTS:
        crowd = KDTree(left).query_ball_point(left, SIDE_M / 2, p=math.inf, return_length=True)
        around = left[_is_inside(left - left[crowd.argmax()])]
        middle = (around.min(axis=0) + around.max(axis=0)) / 2
        middles.append(to_latlng(middle, latlng[0]))
        left = left[~_is_inside(left - middle)]
    return middles


def _is_inside(metres: Floats) -> NDArray[np.bool_]:
    return np.asarray(np.abs(metres).max(axis=-1) <= SIDE_M / 2)


def _draw_points(axes: Axes, latlng: Floats, middle: Floats, name: str, marker: str, size: float) -> None:
    metres = to_local(latlng, middle)
    axes.plot(*metres[_is_inside(metres)].T, marker, color=COLORS[name], markersize=size)


def _draw_objects(axes: Axes, objects: MappedObjects, judged: JudgedMap, middle: Floats) -> None:
    """Draws those of a part with their error ellipses."""
    metres = to_local(objects.latlng, middle)
    inside = _is_inside(metres)
    ellipse = error_ellipse(objects.covariance[inside], ELLIPSE)
    colors = np.select([judged.right, judged.wrong], [COLORS["right"], COLORS["wrong"]], COLORS["not judged"])[inside]
    axes.scatter(metres[inside, 0], metres[inside, 1], s=14, c=colors.tolist(), linewidths=0)
    axes.add_collection(
        EllipseCollection(
            2 * ellipse.semi_major,
            2 * ellipse.semi_minor,
            90 - np.degrees(ellipse.bearing),
            units="xy",
            offsets=metres[inside],
            offset_transform=axes.transData,
            facecolors="none",
            edgecolors=colors.tolist(),
            linewidths=0.6,
            alpha=0.7,
        )
    )
