"""What the matcher made of detections, as columns of a file: matches, positions, error ellipses.

Convention:
    Of the way that uses everything. ``match`` is the number of the detection of the other view among the detections of
    its view, in the order of the file. Positions are of both views for a match, else of the one view.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from crossview.evaluation.scoring import ELLIPSE, SceneOutcome
from crossview.geometry.frames import to_latlng
from crossview.geometry.location import error_ellipse

FINDINGS = (
    pa.field("match", pa.int32()),
    pa.field("match_score", pa.float64()),
    *(pa.field(f"final_{name}", pa.float32()) for name in ("xmin", "ymin", "xmax", "ymax")),
    pa.field("final_valid", pa.bool_()),
    pa.field("presence", pa.float32()),
    *(pa.field(f"found_{name}", pa.float64()) for name in ("east", "north", "lat", "lng")),
    *(pa.field(f"ellipse_{name}", pa.float64()) for name in ("major_m", "minor_m", "bearing")),
)


def finding_columns(outcome: SceneOutcome, view: int) -> dict[str, Any]:
    """The columns of the detections of a view (0 or 1)."""
    matched = outcome.matched
    boxes, single = matched.detections[view], matched.single[view]
    own, its = (matched.index_1, matched.index_2) if view == 0 else (matched.index_2, matched.index_1)
    count = len(boxes.labels)
    match, scores = np.full(count, -1), np.full(count, np.nan)
    match[own], scores[own] = its, matched.scores
    position, covariance, valid = single.east_north.copy(), single.covariance.copy(), single.valid.copy()
    known = matched.location.valid
    position[own[known]] = matched.location.east_north[known]
    covariance[own[known]] = matched.location.covariance[known]
    valid[own[known]] = True
    ellipse = error_ellipse(covariance, ELLIPSE)
    degrees = to_latlng(position, outcome.scene.origin)
    numbers = {
        "found_east": position[:, 0],
        "found_north": position[:, 1],
        "found_lat": degrees[:, 0],
        "found_lng": degrees[:, 1],
        "ellipse_major_m": ellipse.semi_major,
        "ellipse_minor_m": ellipse.semi_minor,
        "ellipse_bearing": ellipse.bearing,
    }
    corners = {
        f"final_{name}": boxes.placed[:, number].copy() for number, name in enumerate(("xmin", "ymin", "xmax", "ymax"))
    }
    return {
        "match": pa.array(match, pa.int32(), mask=match < 0),
        "match_score": scores,
        **corners,
        "final_valid": boxes.placed_valid,
        "presence": boxes.covisibility,
        **{name: np.where(valid, values, np.nan) for name, values in numbers.items()},
    }
