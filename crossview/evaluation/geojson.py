"""Objects as a map layer that geographic information systems open: GeoJSON (RFC 7946).

Convention:
    Longitude before latitude, WGS84, in degrees, 1e-8 of them (a millimetre). Boxes are pixels of the image file, half
    open, from 0.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossview.evaluation.objects import MappedObject
from crossview.evaluation.scoring import ELLIPSE
from crossview.files import whole_file
from crossview.geometry.location import error_ellipse


def write_geojson(path: Path, objects: Sequence[MappedObject], class_names: Sequence[str]) -> None:
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
        for number, found in enumerate(objects):
            file.write(b"\n" if number == 0 else b",\n")
            file.write(json.dumps(_feature(number, found, class_names), ensure_ascii=False).encode())
        file.write(b"\n]}\n")


def _feature(number: int, found: MappedObject, class_names: Sequence[str]) -> dict[str, Any]:
    ellipse = error_ellipse(found.covariance[None], ELLIPSE)
    return {
        "type": "Feature",
        "id": number,
        "geometry": {"type": "Point", "coordinates": [round(float(value), 8) for value in found.latlng[::-1]]},
        "properties": {
            "class": class_names[found.label - 1],
            "score": round(max(sighting.score for sighting in found.sightings), 4),
            "views": len(found.sightings),
            "match_score": round(found.probability, 4) if found.probability else None,
            "ellipse_major_m": round(float(ellipse.semi_major[0]), 3),
            "ellipse_minor_m": round(float(ellipse.semi_minor[0]), 3),
            "ellipse_bearing_deg": round(float(np.degrees(ellipse.bearing[0])), 1),
            "sightings": [
                {
                    "view": sighting.name,
                    "score": round(sighting.score, 4),
                    "box": [round(float(value), 1) for value in sighting.box],
                }
                for sighting in found.sightings
            ],
        },
    }
