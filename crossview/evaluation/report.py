"""``report.html``: one page about an evaluation, in one file that needs nothing else."""

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from crossview.evaluation.curves import (
    COLORS,
    calibration_of_ellipses,
    calibration_of_scores,
    error_against_distance,
    precision_recall_curves,
)
from crossview.evaluation.gallery import GalleryPicture, gallery
from crossview.evaluation.map_parts import COLORS as MAP_COLORS
from crossview.evaluation.map_parts import SIDE_M as MAP_SIDE_M
from crossview.evaluation.records import Scene
from crossview.evaluation.scoring import ELLIPSE, MILLISECONDS, BaselineOutcome, Outcome
from crossview.files import write_whole

COLUMNS = {  # of the table of baselines: metric, heading, digits
    "cross/ap50": ("cross AP50", 3),
    "cross/placed": ("placed on the object", 3),
    "cross/center_px": ("centre error, px", 1),
    "reid/ap": ("re-id AP", 3),
    "reid/f1": ("re-id F1", 3),
    "reid/precision": ("precision", 3),
    "reid/recall": ("recall", 3),
    "geo/median_m": ("median error, m", 2),
    "geo/mean_m": ("mean error, m", 2),
    f"geo/inside_{round(100 * ELLIPSE)}": (f"inside {ELLIPSE:.0%} ellipse", 3),
    "reid/refined": ("poses refined", 2),
    MILLISECONDS: ("ms a pair", 1),
}
MAP_LEGEND = {
    "right": "on the map, and annotated",
    "wrong": "on the map by mistake, or twice",
    "not judged": "difficult, or without an identity to compare with",
    "annotated": "where they are (+)",
    "camera": "cameras",
}
MORE_IS_BETTER = {"cross/ap50", "cross/placed", "reid/ap", "reid/f1", "reid/precision", "reid/recall"}
LESS_IS_BETTER = {"cross/center_px", "geo/median_m", "geo/mean_m"}

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1240px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd; }
.facts { color: #666; margin-top: .2em; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .7em; text-align: right; border-bottom: 1px solid #e5e5e5; }
th { font-weight: 600; font-size: .85em; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
td.best { font-weight: 700; background: #eef6ee; }
.swatch { display: inline-block; width: .75em; height: .75em; margin-right: .45em; border-radius: 2px; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(360px, 1fr)); gap: 1em; }
.curves svg { width: 100%; height: auto; }
figure { margin: 1.2em 0; } figure img { width: 100%; height: auto; } figcaption { color: #555; }
figcaption b { color: #222; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="facts">$facts</p>
<h2>Metrics</h2>
<div class="wide">$metrics</div>
$baselines
<h2>Curves</h2>
<div class="curves">$curves</div>
$maps
$gallery
</body>
</html>
""")
BASELINE_PART = Template("""<h2>The same detections, matched and placed in several ways</h2>
<div class="wide">$table</div>
<p class="facts">Pure geometry: boxes go where flat ground and the stated poses put them, matches by place and size.
Appearance only: matches by embeddings, a box goes to its match. Geometry and appearance, unrefined: all evidence, poses
as stated, the network's learned correction. Everything: poses refined by the matches, a matched box at the position
that both views give. All but pure geometry rank a placed detection by whether a match was found.</p>""")


def write_report(
    path: Path,
    scenes: Sequence[Scene],
    outcome: Outcome,
    settings: Mapping[str, Any],
    threshold: float,
    maps: Sequence[str] = (),
) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: of the file.
        scenes: of a test set.
        outcome: of the same.
        settings: what the predictions' file says about itself.
        threshold: least score of a match that counts.
        maps: parts of the map, SVG.
    """
    pictures = gallery(scenes, outcome, threshold) if outcome.baselines else []
    told = {
        "checkpoint": settings.get("checkpoint"),
        "classes": ", ".join(settings["class_names"]),
        "detections": settings["detections"].replace("_", " "),
        "least score of a match": f"{threshold:g}",
    }
    page = PAGE.substitute(
        title=f"Evaluation of the {html.escape(settings['split'])} split",
        facts=" &middot; ".join(f"{name}: {html.escape(str(value))}" for name, value in told.items()),
        metrics=_metrics(outcome.metrics),
        baselines=_baselines(outcome.baselines),
        curves="\n".join(f"<div>{curve}</div>" for curve in _curves(outcome)),
        maps=_maps(maps),
        gallery=_gallery(pictures),
    )
    write_whole(path, page)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "&ndash;"


def _metrics(metrics: Mapping[str, float]) -> str:
    """A table of all metrics, a row a group."""
    groups: dict[str, list[str]] = {}
    for name, value in sorted(metrics.items()):
        group, _, metric = name.partition("/")
        groups.setdefault(group, []).append(f"{html.escape(metric)}&nbsp;<b>{_number(value, 3)}</b>")
    rows = (
        f"<tr><td>{html.escape(group)}</td><td style='text-align:left'>{' &emsp; '.join(found)}</td></tr>"
        for group, found in groups.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _baselines(baselines: Sequence[BaselineOutcome]) -> str:
    """The table of baselines with the best value of every column marked; nothing for views by themselves."""
    if not baselines:
        return ""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading, _ in COLUMNS.values())
    best = {name: _best(name, [outcome.metrics[name] for outcome in baselines]) for name in COLUMNS}
    rows = []
    for outcome, color in zip(baselines, _colors(baselines), strict=True):
        cells = (
            f"<td{' class=best' if _same(outcome.metrics[name], best[name]) else ''}>"
            f"{_number(outcome.metrics[name], digits)}</td>"
            for name, (_, digits) in COLUMNS.items()
        )
        swatch = f'<span class="swatch" style="background:{color}"></span>'
        rows.append(f"<tr><td>{swatch}{html.escape(outcome.baseline.title)}</td>{''.join(cells)}</tr>")
    return BASELINE_PART.substitute(table=f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>")


def _best(name: str, values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    if not known or name not in MORE_IS_BETTER | LESS_IS_BETTER:
        return None
    return max(known) if name in MORE_IS_BETTER else min(known)


def _same(value: float, best: float | None) -> bool:
    return best is not None and value == best


def _colors(baselines: Sequence[BaselineOutcome]) -> list[str]:
    """The last of the colours is that of the fullest way, whether or not there is a row for appearance alone."""
    first = COLORS[:1] if len(baselines) == len(COLORS) else ()
    rest = COLORS[1:] if first else COLORS[:1] + COLORS[2:]
    return [*first, *rest]


def _curves(outcome: Outcome) -> list[str]:
    detection = precision_recall_curves({"detections": outcome.detection}, COLORS[2:3], "detection, IoU 0.5")
    if not outcome.baselines:
        return [detection, calibration_of_scores(outcome)]
    colors = _colors(outcome.baselines)
    cross, reid = (
        {row.baseline.title: ranked for row, ranked in zip(outcome.baselines, rankings, strict=True)}
        for rankings in ([row.cross for row in outcome.baselines], [row.reid for row in outcome.baselines])
    )
    return [
        detection,
        precision_recall_curves(cross, colors, "placed in the other view, IoU 0.5"),
        precision_recall_curves(reid, colors, "re-identification"),
        error_against_distance(outcome.baselines, colors),
        calibration_of_scores(outcome),
        calibration_of_ellipses(outcome.baselines, colors),
    ]


def _maps(parts: Sequence[str]) -> str:
    if not parts:
        return ""
    legend = " &ensp; ".join(
        f'<span class="swatch" style="background:{MAP_COLORS[name]}"></span>{meaning}'
        for name, meaning in MAP_LEGEND.items()
    )
    told = (
        f"The {MAP_SIDE_M:.0f} m squares with most objects, north up, with ellipses that hold {ELLIPSE:.0%}; "
        "objects.geojson has all of them."
    )
    shown = "\n".join(f"<div>{part}</div>" for part in parts)
    return f'<h2>Map</h2><p class="facts">{told}<br>{legend}</p><div class="curves">{shown}</div>'


def _gallery(pictures: Sequence[GalleryPicture]) -> str:
    if not pictures:
        return ""
    figures = (
        f'<figure><img alt="{html.escape(picture.heading)}" src="data:image/jpeg;base64,{picture.jpeg}">'
        f"<figcaption><b>{html.escape(picture.heading)}</b>: {html.escape(picture.caption)}</figcaption></figure>"
        for picture in pictures
    )
    told = "Thin white boxes are annotated, thick ones were matched; wrong matches are dashed and marked."
    return f'<h2>Pairs</h2><p class="facts">{told}</p>{"".join(figures)}'
