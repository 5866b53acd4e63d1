"""What scoring needs to know of a test set, without a network.

Convention:
    NumPy. A scene is a pair of views, or a view by itself. K boxes of a view, ``xyxy`` pixels of the network image.
    Boxes placed in the other view are in its pixels; of a view by itself none is valid. Probabilities are NaN where
    nobody says them. Embeddings are half precision, so that a file keeps them exactly; their length is 1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossview.detector.detections import ViewDetections
from crossview.dual.placed import PlacedDetections
from crossview.geometry.camera import Camera

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


class Boxes(NamedTuple):
    """Boxes of one view and what the network says of them.

    Attributes:
        boxes: (K, 4) float32.
        labels: (K,) int64, 1..C.
        scores: (K,) float32 probability of the class.
        covisibility: (K,) float32 probability that the object is in the other view too.
        placed: (K, 4) float32, in the other view by the network.
        placed_valid: (K,) bool.
        geometry: (K, 4) float32, in the other view by geometry alone.
        geometry_valid: (K,) bool.
        embeddings: (K, E) float16, or None if the network does not embed objects.
    """

    boxes: Floats
    labels: NDArray[np.int64]
    scores: Floats
    covisibility: Floats
    placed: Floats
    placed_valid: Flags
    geometry: Floats
    geometry_valid: Flags
    embeddings: NDArray[np.float16] | None

    def take(self, rows: NDArray[np.integer] | Flags) -> "Boxes":
        """Some of the boxes."""
        fields: list[Any] = [None if field is None else field[rows] for field in self]
        return Boxes(*fields)


class Truth(NamedTuple):
    """What is annotated besides the boxes of G objects.

    Attributes:
        ids: (G,) int64, meaningless where ``has_id`` is False.
        has_id: (G,) bool.
        difficult: (G,) bool.
        location: (G, 2) float64 metres east and north in the pair's frame, meaningless where there is none.
        has_location: (G,) bool.
    """

    ids: NDArray[np.int64]
    has_id: Flags
    difficult: Flags
    location: NDArray[np.float64]
    has_location: Flags


class ViewRecord(NamedTuple):
    """One view of a scene.

    Attributes:
        name: of the view.
        number: of the view in its data set.
        image: its file, empty if it is not known.
        network_size: width and height of the network image.
        image_size: width and height of the image file.
        period: network pixels in 360 degrees, infinite for an ordinary image.
        camera: of the network image in the pair's frame, float64, batch shape (); None for a view by itself.
        detections: what the network found.
        objects: the annotated boxes, with score 1, and what the network says of them.
        truth: of the objects.
    """

    name: str
    number: int
    image: str
    network_size: tuple[int, int]
    image_size: tuple[int, int]
    period: float
    camera: Camera | None
    detections: Boxes
    objects: Boxes
    truth: Truth

    @property
    def pixel_scale(self) -> tuple[float, float]:
        """Pixels of the image file per network pixel, in x and y."""
        return self.image_size[0] / self.network_size[0], self.image_size[1] / self.network_size[1]

    def in_image(self, boxes: Floats) -> Floats:
        """Boxes (K, 4) of the network image in pixels of the image file."""
        scaled: Floats = (boxes * np.tile(self.pixel_scale, 2)).astype(np.float32)
        return scaled


class Scene(NamedTuple):
    """A pair of views, or a view by itself.

    Attributes:
        number: of the pair or view in its data set.
        origin: latitude and longitude of the pair's frame in degrees; NaN for a view by itself.
        views: one or two.
    """

    number: int
    origin: tuple[float, float]
    views: tuple[ViewRecord, ...]

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return " / ".join(view.name for view in self.views)


class SceneObjects(NamedTuple):
    """Annotated objects of views (..., G) with padding, as metrics take them, see `crossview.data.batch.Objects`."""

    boxes: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor
    has_id: torch.Tensor
    difficult: torch.Tensor
    present: torch.Tensor


def with_annotated_boxes(scene: Scene) -> Scene:
    """The scene of a perfect detector: the annotated boxes take the detections' place."""
    return scene._replace(views=tuple(view._replace(detections=view.objects) for view in scene.views))


def scene_objects(scenes: Sequence[Scene]) -> SceneObjects:
    """The objects (B, V, G) of B scenes of V views each."""
    columns = [(view.objects.boxes, view.objects.labels, *view.truth[:3]) for scene in scenes for view in scene.views]
    return SceneObjects(*_padded(columns, len(scenes)))


def scene_detections(scenes: Sequence[Scene]) -> ViewDetections:
    """The detections (B, V, D) of B scenes of V views each."""
    found = [view.detections for scene in scenes for view in scene.views]
    boxes, scores, labels, present = _padded([(view.boxes, view.scores, view.labels) for view in found], len(scenes))
    return ViewDetections(boxes, scores, labels, present)


def scene_placed(detections: Sequence[tuple[Boxes, ...]]) -> PlacedDetections:
    """Detections (B, V, D) of B scenes of V views each, placed in the other view."""
    columns = [
        (view.placed, view.placed_valid, view.geometry, view.geometry_valid, view.covisibility)
        for views in detections
        for view in views
    ]
    return PlacedDetections(*_padded(columns, len(detections))[:-1])


def scene_periods(scenes: Sequence[Scene]) -> torch.Tensor:
    """Network pixels (B, V) in 360 degrees of B scenes of V views each."""
    # In single precision, as a batch has it: what is scored is the same to the last bit.
    return torch.tensor([[view.period for view in scene.views] for scene in scenes], dtype=torch.float32)


def _padded(views: Sequence[tuple[NDArray[Any], ...]], scenes: int) -> list[torch.Tensor]:
    """Columns of the views of scenes, each (B, V, N, ...), and which rows (B, V, N) are no padding; N is at least 1."""
    counts = np.array([len(columns[0]) for columns in views])
    present = np.arange(max(1, *counts)) < counts[:, None]
    padded = []
    for fields in zip(*views, strict=True):
        rows = np.zeros((*present.shape, *fields[0].shape[1:]), fields[0].dtype)
        rows[present] = np.concatenate(fields)
        padded.append(rows)
    return [torch.unflatten(torch.from_numpy(rows), 0, (scenes, -1)) for rows in [*padded, present]]
