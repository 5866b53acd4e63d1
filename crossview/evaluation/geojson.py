"""Objects as a map layer that geographic information systems open: GeoJSON (RFC 7946).

Convention:
    Longitude before latitude, WGS84, in degrees, 1e-8 of them (a millimetre). Boxes are pixels of the image file, half
    open, from 0.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossview.evaluation.objects import MappedObjects
from crossview.evaluation.scoring import ELLIPSE
from crossview.files import whole_file
from crossview.geometry.location import error_ellipse


def write_geojson(path: Path, objects: MappedObjects, class_names: Sequence[str]) -> None:
    """Writes a feature for each object, one a line.

    Args:
        path: of the file.
        objects: of the map.
        class_names: of labels 1..C.

    Raises:
        OSError: the file cannot be written; an earlier one is as it was.
    """
    with whole_file(path) as file:
        file.write(b'{"type": "FeatureCollection", "features": [')
        for number, feature in enumerate(_features(objects, class_names)):
            file.write(b"\n" if number == 0 else b",\n")
            file.write(json.dumps(feature, ensure_ascii=False).encode())
        file.write(b"\n]}\n")


def _features(objects: MappedObjects, class_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    ellipse = error_ellipse(objects.covariance, ELLIPSE)
    lines = zip(
        objects.label.tolist(),
        objects.best_scores().tolist(),
        objects.counts.tolist(),
        objects.ends().tolist(),
        objects.probability.round(4).tolist(),
        objects.latlng.round(8).tolist(),
        ellipse.semi_major.round(3).tolist(),
        ellipse.semi_minor.round(3).tolist(),
        np.degrees(ellipse.bearing).round(1).tolist(),
        strict=True,
    )
    for number, (label, score, views, end, probability, (lat, lng), major, minor, bearing) in enumerate(lines):
        yield {
            "type": "Feature",
            "id": number,
            "geometry": {"type": "Point", "coordinates": [lng, lat]},
            "properties": {
                "class": class_names[label - 1],
                "score": round(score, 4),
                "views": views,
                "match_score": probability or None,
                "ellipse_major_m": major,
                "ellipse_minor_m": minor,
                "ellipse_bearing_deg": bearing,
                "sightings": [_sighting(objects, row) for row in range(end - views, end)],
            },
        }


def _sighting(objects: MappedObjects, row: int) -> dict[str, Any]:
    found = objects.sightings
    return {
        "view": objects.names[int(found.view[row])],
        "score": round(float(found.score[row]), 4),
        "box": [round(value, 1) for value in found.box[row].tolist()],
    }
