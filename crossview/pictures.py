"""Pictures of a pair: both views with ground truth, detections, and detections placed from the other view.

Convention:
    A colour belongs to an identity, the same in both views; grey has no identity. Thin solid boxes are ground truth,
    thick solid ones detections, dashed ones detections of the other view placed here. A box that crosses the seam is
    drawn at both image edges.
"""

import colorsys
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

GOLDEN_RATIO = 0.618033988749895
NO_IDENTITY = (0.75, 0.75, 0.75)
Color = tuple[float, float, float]


class Layer(NamedTuple):
    """Boxes of one kind in one view.

    Attributes:
        boxes: (K, 4) ``xyxy`` pixels of the view's image.
        ids: (K,) int64 identities, which give the colours.
        has_id: (K,) bool.
        notes: a short text for each box, or none at all.
    """

    boxes: NDArray[np.float32]
    ids: NDArray[np.int64]
    has_id: NDArray[np.bool_]
    notes: list[str]


class ViewPicture(NamedTuple):
    """What is drawn of one view.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        name: of the view.
        period: pixels in 360 degrees.
        ground_truth: annotated boxes.
        detections: detected boxes.
        placed: boxes detected in the other view, placed in this one.
    """

    image: NDArray[np.uint8]
    name: str
    period: float
    ground_truth: Layer
    detections: Layer
    placed: Layer


def identity_color(identity: int) -> Color:
    """A colour for an identity: neighbouring numbers get far apart hues."""
    return colorsys.hsv_to_rgb((identity * GOLDEN_RATIO) % 1.0, 0.85, 1.0)


def _draw_layer(
    axes: Axes, layer: Layer, period: float, width: float, style: str | tuple[float, tuple[float, ...]]
) -> None:
    for box, identity, known, note in zip(
        layer.boxes, layer.ids, layer.has_id, layer.notes or [""] * len(layer.boxes), strict=True
    ):
        color = identity_color(int(identity)) if known else NO_IDENTITY
        left, top, right, bottom = (float(value) for value in box)
        for shift in (-period, 0.0, period):
            if right + shift <= 0 or left + shift >= period:
                continue
            patch = Rectangle(
                (left + shift, top),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=color,
                linewidth=width,
                linestyle=style,
            )
            axes.add_patch(patch)
            if note:
                axes.text(left + shift + 2, top - 2, note, color=color, fontsize=7, clip_on=True)


def draw_pair(views: tuple[ViewPicture, ViewPicture], title: str) -> Figure:
    """One figure of both views, one above the other."""
    height, width = views[0].image.shape[:2]
    inches = 14.0
    figure = Figure(figsize=(inches, 2 * inches * height / width + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    for axes, view in zip(figure.subplots(2, 1), views, strict=True):
        axes.imshow(view.image, extent=(0, view.image.shape[1], view.image.shape[0], 0))
        axes.set_title(view.name, fontsize=9, loc="left")
        axes.set_axis_off()
        _draw_layer(axes, view.ground_truth, view.period, 0.9, "-")
        _draw_layer(axes, view.detections, view.period, 2.2, "-")
        _draw_layer(axes, view.placed, view.period, 1.6, (0.0, (3.0, 2.0)))
        axes.set_xlim(0, view.image.shape[1])
        axes.set_ylim(view.image.shape[0], 0)
    styles = [
        Line2D([], [], color="0.3", linewidth=0.9, label="ground truth"),
        Line2D([], [], color="0.3", linewidth=2.2, label="detected here"),
        Line2D(
            [],
            [],
            color="0.3",
            linewidth=1.6,
            linestyle=(0.0, (3.0, 2.0)),
            label="detected in the other view, placed here",
        ),
    ]
    figure.legend(handles=styles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure
