"""Scenes in a file: ``predictions.parquet``, one row a view, an annotated object and a detection.

Convention:
    Column ``kind`` is "view", "object" or "detection"; every row repeats what is known of its view, so that a row by
    itself can be used. Boxes come in pixels of the network image, which are scored, and of the image file (``image_``),
    for other programs. What does not exist is null. docs/evaluation.md lists the columns.

    What the network says and what is annotated is enough to score anew. ``match`` and the columns after it say what
    the matcher made of it; they are for other programs, and are not read back.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from crossview.build import ConfigError
from crossview.evaluation.findings import FINDINGS, finding_columns
from crossview.evaluation.outcomes import PairOutcome
from crossview.evaluation.records import Boxes, Scene, Truth, ViewRecord
from crossview.files import whole_file
from crossview.geometry.camera import Camera
from crossview.geometry.frames import to_latlng

VERSION = 1
SCENES_AT_ONCE = 256  # that are written together
METADATA_KEY = b"crossview.predictions"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
VIEW, OBJECT, DETECTION = "view", "object", "detection"
BOXES = {"": "boxes", "placed_": "placed", "geometry_": "geometry"}

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("pair", pa.int64()),
        ("view", pa.int8()),
        ("view_name", pa.string()),
        ("view_number", pa.int64()),
        ("image", pa.string()),
        *((name, pa.int32()) for name in ("network_width", "network_height", "image_width", "image_height")),
        ("period", pa.float64()),
        *((name, pa.float64()) for name in ("origin_lat", "origin_lng")),
        *((f"camera_{name}", pa.float64()) for name in ("east", "north", "height", "yaw")),
        *((f"camera_{name}", pa.float64()) for name in ("scale_x", "scale_y", "offset_x", "offset_y")),
        ("label", pa.int32()),
        ("class_name", pa.string()),
        ("score", pa.float32()),
        ("covisibility", pa.float32()),
        *((prefix + corner, pa.float32()) for prefix in BOXES for corner in CORNERS),
        *((f"image_{corner}", pa.float32()) for corner in CORNERS),
        *((name, pa.bool_()) for name in ("placed_valid", "geometry_valid")),
        ("embedding", pa.list_(pa.float16())),
        ("id", pa.int64()),
        ("difficult", pa.bool_()),
        *((name, pa.float64()) for name in ("east", "north", "lat", "lng")),
        *FINDINGS,
    ]
)


class Predictions(NamedTuple):
    """The content of a file.

    Attributes:
        scenes: by rising number.
        settings: how they were made, plain containers: class_names, split, losses, checkpoint, matcher, config.
    """

    scenes: Sequence[Scene]
    settings: dict[str, Any]


def write_predictions(
    path: Path, scenes: Sequence[Scene], settings: Mapping[str, Any], outcomes: Sequence[PairOutcome] = ()
) -> None:
    """Writes scenes, whole or not at all.

    Args:
        path: of the file.
        scenes: of a test set.
        settings: plain containers, see `Predictions`.
        outcomes: what was made of the scenes' detections, in the same order; empty for views by themselves.
    """
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps({"version": VERSION, **settings}).encode()})
    with whole_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for first in range(0, len(scenes), SCENES_AT_ONCE):
            part = slice(first, first + SCENES_AT_ONCE)
            together = scenes[part]
            found = outcomes[part] if outcomes else [None] * len(together)
            blocks = [
                block
                for scene, outcome in zip(together, found, strict=True)
                for block in _scene_blocks(scene, outcome, settings["class_names"])
            ]
            writer.write_table(pa.concat_tables(blocks).combine_chunks().cast(schema))


def _scene_blocks(scene: Scene, outcome: PairOutcome | None, class_names: Sequence[str]) -> Iterator[pa.Table]:
    for index, view in enumerate(scene.views):
        shared = _view_columns(scene, index, view)
        yield _block(1, {"kind": VIEW, **shared})
        rows = _box_columns(view.objects, view, class_names) | _truth_columns(view.truth, scene.origin)
        yield _block(len(view.objects.labels), {"kind": OBJECT, **shared, **rows})
        rows = _box_columns(view.detections, view, class_names)
        if outcome is not None:
            rows |= finding_columns(outcome.matched, index, scene.origin)
        yield _block(len(view.detections.labels), {"kind": DETECTION, **shared, **rows})


def _block(count: int, columns: Mapping[str, Any]) -> pa.Table:
    """Rows that have some of the columns; a plain value is that of all rows."""
    arrays = []
    for field in SCHEMA:
        value = columns.get(field.name)
        if isinstance(value, np.ndarray):
            arrays.append(pa.array(value, field.type, from_pandas=field.type in (pa.float32(), pa.float64())))
        elif isinstance(value, pa.Array):
            arrays.append(value.cast(field.type))
        else:
            plain = None if isinstance(value, float) and np.isnan(value) else value
            arrays.append(pa.array([plain] * count, field.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _view_columns(scene: Scene, index: int, view: ViewRecord) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "pair": scene.number,
        "view": index + 1,
        "view_name": view.name,
        "view_number": view.number,
        "image": view.image,
        "network_width": view.network_size[0],
        "network_height": view.network_size[1],
        "image_width": view.image_size[0],
        "image_height": view.image_size[1],
        "period": view.period,
        "origin_lat": scene.origin[0],
        "origin_lng": scene.origin[1],
    }
    if view.camera is not None:
        flat = np.concatenate([np.atleast_1d(field.numpy()) for field in view.camera])
        names = ("east", "north", "height", "yaw", "scale_x", "scale_y", "offset_x", "offset_y")
        columns |= {f"camera_{name}": float(value) for name, value in zip(names, flat, strict=True)}
    return columns


def _box_columns(boxes: Boxes, view: ViewRecord, class_names: Sequence[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "label": boxes.labels,
        "class_name": pa.array([class_names[label - 1] for label in boxes.labels], pa.string()),
        "score": boxes.scores,
        "covisibility": boxes.covisibility,
        "placed_valid": boxes.placed_valid,
        "geometry_valid": boxes.geometry_valid,
    }
    for prefix, name in BOXES.items():
        values = getattr(boxes, name)
        columns |= {prefix + corner: values[:, number].copy() for number, corner in enumerate(CORNERS)}
    scaled = view.in_image(boxes.boxes)
    columns |= {f"image_{corner}": scaled[:, number].copy() for number, corner in enumerate(CORNERS)}
    if boxes.embeddings is not None:
        count, width = boxes.embeddings.shape
        offsets = pa.array(np.arange(count + 1, dtype=np.int32) * width)
        columns["embedding"] = pa.ListArray.from_arrays(offsets, pa.array(boxes.embeddings.ravel(), pa.float16()))
    return columns


def _truth_columns(truth: Truth, origin: tuple[float, float]) -> dict[str, Any]:
    metres = np.where(truth.has_location[:, None], truth.location, np.nan)
    degrees = to_latlng(metres, origin)
    return {
        "id": pa.array(truth.ids, pa.int64(), mask=~truth.has_id),
        "difficult": truth.difficult,
        "east": metres[:, 0].copy(),
        "north": metres[:, 1].copy(),
        "lat": degrees[:, 0].copy(),
        "lng": degrees[:, 1].copy(),
    }


def read_predictions(path: Path, key: str = "predictions") -> Predictions:
    """The scenes of a file, exactly as they were written, whatever the order of its rows of different views.

    Args:
        path: of the file.
        key: of the config that names it, for messages.

    Raises:
        ConfigError: there is no such file, or it is not one of this version.
    """
    if not path.is_file():
        raise ConfigError(f"{key}: found no file {path}; expected the predictions.parquet of an evaluation")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{key}: {path} is not a Parquet file, or it is damaged: {error}") from error
    settings = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    version = settings.pop("version", None)
    if version != VERSION:
        found = "no version of this program" if version is None else f"version {version}"
        raise ConfigError(
            f"{key}: {path} is of {found}, expected version {VERSION}; run the network again with ckpt=FILE"
        )
    missing = sorted(set(SCHEMA.names) - set(table.schema.names))
    if missing:
        raise ConfigError(f"{key}: {path} has no columns {missing}; run the network again with ckpt=FILE")
    return Predictions(_scenes(table), settings)


def _scenes(table: pa.Table) -> list[Scene]:
    plain = [field.name for field in SCHEMA if field.name != "embedding" and field not in list(FINDINGS)]
    columns = {name: _numpy(table[name]) for name in plain}
    columns["has_id"] = np.asarray(table["id"].is_valid())
    columns["embedding"] = _embeddings(table["embedding"])
    order = np.lexsort((columns["view"], columns["pair"]))
    views: dict[int, list[dict[str, NDArray[Any]]]] = {}
    keys = np.stack((columns["pair"], columns["view"]), axis=-1)[order]
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=-1) != 0, axis=1))
    for rows in np.split(order, starts)[1:]:
        found = {name: values[rows] for name, values in columns.items()}
        views.setdefault(int(found["pair"][0]), []).append(found)
    return [
        Scene(number, _origin(found[0]), tuple(_view(columns) for columns in found)) for number, found in views.items()
    ]


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column; nulls become NaN, False, -1 or None."""
    if pa.types.is_boolean(column.type):
        column = column.fill_null(False)
    elif pa.types.is_integer(column.type):
        values = column.fill_null(-1).to_numpy()
        return np.asarray(values)
    return np.asarray(column.to_numpy())


def _embeddings(column: pa.ChunkedArray) -> NDArray[np.float16]:
    """Embeddings (N, E), of zeros where a row has none; E is 0 if none has."""
    lists = column.combine_chunks()
    known = np.asarray(lists.is_valid())
    flat = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), np.float16)
    vectors = np.zeros((len(known), len(flat) // max(int(known.sum()), 1)), np.float16)
    vectors[known] = flat.reshape(int(known.sum()), vectors.shape[1])
    return vectors


def _origin(columns: Mapping[str, NDArray[Any]]) -> tuple[float, float]:
    return float(columns["origin_lat"][0]), float(columns["origin_lng"][0])


def _view(columns: Mapping[str, NDArray[Any]]) -> ViewRecord:
    first = {name: values[0] for name, values in columns.items()}
    flat = [float(first[f"camera_{name}"]) for name in ("east", "north", "height", "yaw")]
    scale, offset = ([float(first[f"camera_{name}_{axis}"]) for axis in "xy"] for name in ("scale", "offset"))
    camera = Camera(*(torch.tensor(v, dtype=torch.float64) for v in (flat[:2], flat[2], flat[3], scale, offset)))
    kinds = {kind: np.flatnonzero(columns["kind"] == kind) for kind in (OBJECT, DETECTION)}
    objects = {name: values[kinds[OBJECT]] for name, values in columns.items()}
    location = np.stack((objects["east"], objects["north"]), axis=-1)
    has_location = ~np.isnan(location).any(axis=1)
    return ViewRecord(
        name=str(first["view_name"]),
        number=int(first["view_number"]),
        image=str(first["image"]),
        network_size=(int(first["network_width"]), int(first["network_height"])),
        image_size=(int(first["image_width"]), int(first["image_height"])),
        period=float(first["period"]),
        camera=None if np.isnan(flat[0]) else camera,
        detections=_boxes({name: values[kinds[DETECTION]] for name, values in columns.items()}),
        objects=_boxes(objects),
        truth=Truth(
            objects["id"],
            objects["has_id"],
            objects["difficult"].astype(bool),
            np.where(has_location[:, None], location, 0.0),
            has_location,
        ),
    )


def _boxes(columns: Mapping[str, NDArray[Any]]) -> Boxes:
    corners = {name: np.stack([columns[prefix + c] for c in CORNERS], axis=-1) for prefix, name in BOXES.items()}
    vectors = columns["embedding"]
    return Boxes(
        labels=columns["label"].astype(np.int64),
        scores=columns["score"],
        covisibility=columns["covisibility"],
        placed_valid=columns["placed_valid"].astype(bool),
        geometry_valid=columns["geometry_valid"].astype(bool),
        embeddings=vectors if vectors.shape[1] else None,
        **corners,
    )
