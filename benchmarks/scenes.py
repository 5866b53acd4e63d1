"""Test sets as an evaluation gets them, without a network: every view has the same number of boxes.

The detections have the faults of a detector's: corners off by some pixels, objects missed, boxes where nothing is.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.pairs import pair_batch
from crossview.data.batch import PairBatch
from crossview.evaluation.records import Boxes, Scene, Truth, ViewRecord
from crossview.geometry.camera import Camera
from crossview.geometry.projection import project_boxes

WIDTH, HEIGHT = 600, 300
EMBEDDING = 128
DISTINCT = 64  # pairs that differ; further ones are copies of them in memory of their own
ORIGIN = (34.156992, -118.165118)
FALSE = 0.25  # share of the detections that show nothing


def scenes(pairs: int, boxes: int = 20, seed: int = 0) -> Iterator[Scene]:
    """Pairs of views one by one, each view with so many annotated boxes and as many detections.

    Args:
        pairs: number of scenes.
        boxes: of a view.
        seed: of everything random.
    """
    distinct = list(_distinct(min(pairs, DISTINCT), boxes, seed))
    for number in range(pairs):
        yield _copy(distinct[number % len(distinct)], number)


def _distinct(pairs: int, boxes: int, seed: int) -> Iterator[Scene]:
    rng = np.random.default_rng(seed)
    batch = pair_batch(pairs, (HEIGHT, WIDTH), boxes, seed)
    vectors = rng.standard_normal((pairs, boxes, EMBEDDING))
    for pair in range(pairs):
        known = [_annotated(batch, pair, view) for view in range(2)]
        found = [_detected(known[view], vectors[pair], rng) for view in range(2)]
        cameras = [Camera(*(field[pair, view].double() for field in batch.cameras)) for view in range(2)]
        views = [
            _view(2 * pair + view, cameras, (found[view], known[view]), batch.objects.location[pair, view].numpy())
            for view in range(2)
        ]
        yield Scene(pair, ORIGIN, tuple(views))


def _annotated(batch: PairBatch, pair: int, view: int) -> NDArray[np.float32]:
    boxes: NDArray[np.float32] = batch.objects.boxes[pair, view].numpy()
    return boxes


def _detected(
    boxes: NDArray[np.float32], vectors: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float16]]:
    """Boxes, scores and embeddings of as many detections, best first."""
    size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = boxes + np.hypot(0.5, 0.03 * size) * rng.standard_normal(boxes.shape)
    wrong = rng.random(len(boxes)) < FALSE
    moved[wrong] += rng.uniform(20, 60, (int(wrong.sum()), 1)) * (1, 0, 1, 0)
    scores = np.where(wrong, rng.uniform(0.01, 0.5, len(boxes)), rng.uniform(0.2, 1.0, len(boxes)))
    turned = np.where(wrong[:, None], rng.standard_normal(vectors.shape), vectors)
    turned = turned + 0.3 * rng.standard_normal(vectors.shape)
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    order = np.argsort(-scores)
    return moved[order].astype(np.float32), scores[order].astype(np.float32), turned[order].astype(np.float16)


def _boxes(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    vectors: NDArray[np.float16],
    cameras: Sequence[Camera],
    view: int,
) -> Boxes:
    rows = torch.from_numpy(boxes).double()
    placed, valid = project_boxes(cameras[view].per_object(), cameras[1 - view].per_object(), rows)
    there, exists = placed.float().numpy(), valid.numpy()
    covisibility = np.clip(scores, 0.05, 0.95)
    return Boxes(boxes, np.ones(len(boxes), np.int64), scores, covisibility, there, exists, there, exists, vectors)


def _view(
    number: int,
    cameras: Sequence[Camera],
    boxes: tuple[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float16]], NDArray[np.float32]],
    location: NDArray[np.float32],
) -> ViewRecord:
    found, known = boxes
    count, view = len(known), number % 2
    yes = np.ones(count, bool)
    vectors = np.zeros((count, EMBEDDING), np.float16)
    return ViewRecord(
        name=f"view_{number}",
        number=number,
        image=f"view_{number}.jpg",
        network_size=(WIDTH, HEIGHT),
        image_size=(2048, 1024),
        period=float(WIDTH),
        camera=cameras[view],
        detections=_boxes(*found, cameras, view),
        objects=_boxes(known, np.ones(count, np.float32), vectors, cameras, view),
        truth=Truth(np.arange(count), yes, ~yes, location.astype(np.float64), yes),
    )


def _copies(fields: Sequence[Any]) -> list[Any]:
    return [np.array(field) for field in fields]


def _copy(scene: Scene, number: int) -> Scene:
    """The scene with another number, in memory of its own as if a network had just looked at it."""
    views = []
    for place, view in enumerate(scene.views):
        assert view.camera is not None, "every view of a pair has a camera"
        views.append(
            view._replace(
                name=f"view_{2 * number + place}",
                number=2 * number + place,
                camera=Camera(*(field.clone() for field in view.camera)),
                detections=Boxes(*_copies(view.detections)),
                objects=Boxes(*_copies(view.objects)),
                truth=Truth(*_copies(view.truth)),
            )
        )
    return Scene(number, scene.origin, tuple(views))
