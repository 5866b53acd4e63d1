"""Pictures of views: ground truth, detections, and in pairs the detections placed from the other view.

Convention:
    A colour belongs to an identity, the same in all views; white has no identity. Thin solid boxes are ground truth,
    thick solid ones detections, dashed ones detections of the other view placed here. A box that crosses the seam is
    drawn at both image edges. Sky and road where no box is are cut off. Matches of a pair are lines from box to box,
    dashed and marked where they are wrong.
"""

import colorsys
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch, Rectangle
from matplotlib.patheffects import Stroke, withStroke
from numpy.typing import NDArray

GOLDEN_RATIO = 0.618033988749895
NO_IDENTITY = (1.0, 1.0, 1.0)
WIDTH_INCHES = 14.0
# Share of the image height that is always shown, and free space around the outermost boxes.
SHOWN_BAND = (0.3, 0.7)
MARGIN = 0.04
Color = tuple[float, float, float]


class Layer(NamedTuple):
    """Boxes of one kind in one view.

    Attributes:
        boxes: (K, 4) ``xyxy`` pixels of the view's image.
        ids: (K,) int64 identities, which give the colours.
        has_id: (K,) bool.
        values: (K,) numbers written at the boxes, or None.
        classes: names of the K boxes' classes, written before the numbers; None where all are of one class.
    """

    boxes: NDArray[np.float32]
    ids: NDArray[np.int64]
    has_id: NDArray[np.bool_]
    values: NDArray[np.float32] | None = None
    classes: Sequence[str] | None = None


class ViewPicture(NamedTuple):
    """What is drawn of one view.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        name: of the view.
        period: pixels in 360 degrees, infinite for an ordinary image.
        ground_truth: annotated boxes.
        detections: detected boxes, with their scores.
        placed: boxes detected in the other view, placed in this one, with the probability that they are in this view;
            None for a view by itself.
    """

    image: NDArray[np.uint8]
    name: str
    period: float
    ground_truth: Layer
    detections: Layer
    placed: Layer | None = None

    def layers(self) -> dict[str, Layer]:
        """The boxes of each kind that there is, by the names of `STYLES`."""
        found = {"ground_truth": self.ground_truth, "detections": self.detections, "placed": self.placed}
        return {name: layer for name, layer in found.items() if layer is not None}


class MatchLine(NamedTuple):
    """A match of two detections of a pair.

    Attributes:
        first: number of the box among the first view's detections.
        second: number of the box among the second view's.
        score: written at the line.
        wrong: whether it is known to be wrong.
    """

    first: int
    second: int
    score: float
    wrong: bool


class Style(NamedTuple):
    """How the boxes of a layer look; their numbers stand above or below them."""

    label: str
    line_width: float
    line: Literal["-"] | tuple[float, tuple[float, ...]] = "-"
    values_below: bool = False


STYLES = {
    "ground_truth": Style("ground truth", 1.0),
    "detections": Style("detected here (above: score)", 2.4),
    "placed": Style(
        "detected in the other view, placed here (below: probability that it is in this view)",
        1.5,
        (0.0, (3.0, 2.0)),
        values_below=True,
    ),
}


def identity_colors(views: Sequence[ViewPicture]) -> dict[int, Color]:
    """A colour for every identity in the views, as different as their number allows."""
    layers = [layer for view in views for layer in view.layers().values()]
    identities = sorted({int(identity) for layer in layers for identity in layer.ids[layer.has_id]})
    numbers = np.arange(len(identities))
    # Evenly spread hues, far apart for neighbouring identities, which often stand side by side.
    hues = np.argsort(np.argsort(numbers * GOLDEN_RATIO % 1.0)) / max(len(identities), 1)
    return {
        identity: colorsys.hsv_to_rgb(float(hue), (0.95, 0.6)[number % 2], 1.0)
        for identity, hue, number in zip(identities, hues, numbers, strict=True)
    }


def draw_views(views: Sequence[ViewPicture], title: str, matches: Sequence[MatchLine] = ()) -> Figure:
    """One figure of a pair's views, one above the other, or of a view by itself.

    Args:
        views: one or two.
        title: of the figure.
        matches: between the detections of two views.
    """
    colors = identity_colors(views)
    top, bottom = _shown_rows(views)
    width = views[0].image.shape[1]
    height_inches = len(views) * WIDTH_INCHES * (bottom - top) / width + 1.0
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    panels = list(figure.subplots(len(views), 1, squeeze=False)[:, 0])
    for axes, view in zip(panels, views, strict=True):
        height, width = view.image.shape[:2]
        axes.imshow(view.image, extent=(0, width, height, 0))
        axes.set_title(view.name, fontsize=9, loc="left")
        axes.set_axis_off()
        for name, layer in view.layers().items():
            _draw_layer(axes, layer, STYLES[name], min(view.period, 2.0 * width), colors)
        axes.set_xlim(0, width)
        axes.set_ylim(bottom, top)
    for match in matches:
        _draw_match(figure, panels, views, match, colors)
    handles = [
        Line2D([], [], color="0.3", linewidth=style.line_width, linestyle=style.line, label=style.label)
        for style in (STYLES[name] for name in views[0].layers())
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def _draw_match(
    figure: Figure, panels: Sequence[Axes], views: Sequence[ViewPicture], match: MatchLine, colors: Mapping[int, Color]
) -> None:
    """A line from the foot of the box above to the top of the box below."""
    ends, layers = [], [view.detections for view in views]
    for layer, view, number, edge in zip(layers, views, (match.first, match.second), (3, 1), strict=True):
        left, _, right, _ = (float(value) for value in layer.boxes[number])
        middle = (left + right) / 2 % min(view.period, 2.0 * view.image.shape[1])
        ends.append((middle, float(layer.boxes[number][edge])))
    known = bool(layers[0].has_id[match.first])
    color = colors[int(layers[0].ids[match.first])] if known else NO_IDENTITY
    line = ConnectionPatch(
        ends[0],
        ends[1],
        coordsA="data",
        coordsB="data",
        axesA=panels[0],
        axesB=panels[1],
        color=color,
        linewidth=1.6,
        linestyle=(0.0, (4.0, 3.0)) if match.wrong else "-",
        path_effects=[withStroke(linewidth=3.0, foreground=(0.0, 0.0, 0.0, 0.55))],
    )
    figure.add_artist(line)
    panels[0].annotate(
        f"{match.score:.2f}{' wrong' if match.wrong else ''}",
        ends[0],
        (2, -8),
        textcoords="offset points",
        color="#ff8080" if match.wrong else "white",
        fontsize=7,
        path_effects=[withStroke(linewidth=1.8, foreground=(0.0, 0.0, 0.0, 0.8))],
    )


def _shown_rows(views: Sequence[ViewPicture]) -> tuple[float, float]:
    """First and last row of the images that are shown, so that no box is cut; of a photo all."""
    if not math.isfinite(views[0].period):
        return 0.0, float(views[0].image.shape[0])
    height = views[0].image.shape[0]
    boxes = np.concatenate([layer.boxes for view in views for layer in view.layers().values()])
    top = min([SHOWN_BAND[0] * height, *(boxes[:, 1] - MARGIN * height)])
    bottom = max([SHOWN_BAND[1] * height, *(boxes[:, 3] + MARGIN * height)])
    return max(float(top), 0.0), min(float(bottom), float(height))


def _draw_layer(axes: Axes, layer: Layer, style: Style, period: float, colors: Mapping[int, Color]) -> None:
    # A dark rim keeps colours apart from sky and leaves.
    rim = [Stroke(linewidth=style.line_width + 1.2, foreground="black", alpha=0.6)] if style.line == "-" else []
    for number, (box, identity, known) in enumerate(zip(layer.boxes, layer.ids, layer.has_id, strict=True)):
        color = colors[int(identity)] if known else NO_IDENTITY
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
                linewidth=style.line_width,
                linestyle=style.line,
                path_effects=[*rim, Stroke(linewidth=style.line_width)],
            )
            axes.add_patch(patch)
            if layer.values is not None:
                axes.text(
                    max(left + shift, 0.0) + 1,
                    bottom + 1 if style.values_below else top - 1,
                    f"{layer.classes[number] if layer.classes else ''} {layer.values[number]:.2f}".lstrip(),
                    color=tuple((1.0 + channel) / 2 for channel in color),  # lighter: dark hues are hard to read
                    fontsize=7,
                    verticalalignment="top" if style.values_below else "bottom",
                    clip_on=True,
                    path_effects=[withStroke(linewidth=1.8, foreground=(0.0, 0.0, 0.0, 0.8))],
                )
