"""What the matcher made of detections, as columns of a file: matches, positions, error ellipses.

Convention:
    Of the way that uses everything. ``match`` is the number of the detection of the other view among the detections of
    its view, in the order of the file. Positions are of both views for a match, else of the one view.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from crossview.evaluation.baselines import Matched
from crossview.evaluation.placing import indices
from crossview.evaluation.scoring import ELLIPSE
from crossview.geometry.location import Location, error_ellipse

FINDINGS = (
    pa.field("match", pa.int32()),
    pa.field("match_score", pa.float64()),
    *(pa.field(f"final_{name}", pa.float32()) for name in ("xmin", "ymin", "xmax", "ymax")),
    pa.field("final_valid", pa.bool_()),
    pa.field("presence", pa.float32()),
    *(pa.field(f"found_{name}", pa.float64()) for name in ("east", "north", "lat", "lng")),
    *(pa.field(f"ellipse_{name}", pa.float64()) for name in ("major_m", "minor_m", "bearing")),
)


def finding_columns(matched: Matched, view: int, origin: tuple[float, float]) -> dict[str, Any]:
    """The columns of the detections of a view (0 or 1) of a pair; its frame's origin in degrees."""
    boxes, single = matched.detections[view], matched.single[view]
    own, its = indices(matched, view)
    count = len(boxes.labels)
    match, scores = np.full(count, -1), np.full(count, np.nan)
    match[own], scores[own] = its, matched.scores
    # By both views where they match, else by this one alone.
    location, known = Location._make(field.copy() for field in single), matched.location.valid
    for whole, part in zip(location, matched.location, strict=True):
        whole[own[known]] = part[known]
    ellipse = error_ellipse(location.covariance, ELLIPSE)
    degrees = location.latlng(origin)
    numbers = {
        "found_east": location.east_north[:, 0],
        "found_north": location.east_north[:, 1],
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
        **{name: np.where(location.valid, values, np.nan) for name, values in numbers.items()},
    }
