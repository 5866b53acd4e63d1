"""Figures as SVG text, to be put into a page."""

import io

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


def new_figure(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """An empty figure of the size of a column of the page."""
    figure = Figure(figsize=(4.6, 3.7), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def svg_text(figure: Figure, axes: Axes) -> str:
    """The figure as an element of an HTML page; text as paths, so that it looks the same everywhere."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7.5, frameon=False)
    text = io.StringIO()
    # Names inside of the picture must differ from those of the page's other pictures, and be the same in every run.
    with rc_context({"svg.hashsalt": axes.get_title()}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    found = text.getvalue()
    return found[found.index("<svg") :]
