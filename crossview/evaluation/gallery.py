"""Pictures of pairs with their matches drawn across both views: the best, the middle and the worst."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crossview.data.errors import DataError
from crossview.data.images import load_image
from crossview.evaluation.outcomes import PairNumbers, PairOutcome
from crossview.evaluation.records import Scene, ViewRecord
from crossview.evaluation.scoring import Outcome
from crossview.metrics.matching import FALSE_POSITIVE, TRUE_POSITIVE
from crossview.pictures import Layer, MatchLine, ViewPicture, draw_views

EACH = 2  # pairs of each kind
WIDTH = 1400  # pixels of a shown panorama
NO_IMAGE = 235  # grey


class GalleryPicture(NamedTuple):
    """A picture for a page.

    Attributes:
        heading: what it is.
        caption: what can be seen.
        jpeg: base64.
    """

    heading: str
    caption: str
    jpeg: str


class PairQuality(NamedTuple):
    """How well pairs (P,) were matched.

    Attributes:
        right: right matches at the threshold.
        wrong: wrong ones.
        shared: objects to find in both views.
        f1: ``reid/f1`` of the pair; NaN if nothing can be found.
    """

    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    shared: NDArray[np.int64]
    f1: NDArray[np.float64]


def qualities(numbers: PairNumbers, threshold: float) -> PairQuality:
    """How well each pair was matched, with the matches that reach the threshold."""
    pair = np.repeat(np.arange(len(numbers.matches)), numbers.matches)
    right, wrong = (
        np.bincount(pair[(numbers.flags == flag) & (numbers.scores >= threshold)], minlength=len(numbers.matches))
        for flag in (TRUE_POSITIVE, FALSE_POSITIVE)
    )
    shared = numbers.shared
    f1 = np.where(shared > 0, 2 * right / np.maximum(right + wrong + shared, 1), np.nan)
    return PairQuality(right, wrong, shared, f1)


def choose(quality: PairQuality) -> dict[str, list[int]]:
    """The best, the middle and the worst pairs, no pair twice; among equals those with more objects."""
    known = np.flatnonzero(quality.shared)
    ranked = known[np.lexsort((-quality.shared[known], -quality.f1[known]))].tolist()
    each = min(EACH, max(len(ranked) // 3, 1))
    middle = max((len(ranked) - each) // 2, each)
    return {
        "best": ranked[:each],
        "median": ranked[middle : len(ranked) - each][:each],
        "worst": ranked[max(len(ranked) - each, each) :],
    }


def gallery(scenes: Sequence[Scene], outcome: Outcome, threshold: float) -> list[GalleryPicture]:
    """Pictures of the pairs that `choose` finds among scored ones."""
    quality = qualities(outcome.baselines[-1].numbers, threshold)
    pictures = []
    for kind, chosen in choose(quality).items():
        for number in chosen:
            right, wrong, shared, f1 = (values[number] for values in quality)
            scene, pair = scenes[number], outcome.pairs[number]
            caption = (
                f"f1 {f1:.2f}: {right} right and {wrong} wrong matches, {shared} objects in both views; "
                f"poses {'refined' if pair.matched.refined else 'as stated'}"
            )
            picture = draw_pair(scene, pair, threshold)
            pictures.append(GalleryPicture(f"{kind}: {scene.title}", caption, picture))
    return pictures


def draw_pair(scene: Scene, outcome: PairOutcome, threshold: float) -> str:
    """A JPEG file in base64: both views, annotated and matched boxes, and lines between those."""
    matched = outcome.matched
    shown = np.flatnonzero(matched.scores >= threshold)
    views = [
        _picture(view, index[shown])
        for view, index in zip(scene.views, (matched.index_1, matched.index_2), strict=True)
    ]
    lines = [
        MatchLine(number, number, float(matched.scores[row]), int(outcome.flags[row]) == FALSE_POSITIVE)
        for number, row in enumerate(shown)
    ]
    figure = draw_views(views, "", lines)
    data = io.BytesIO()
    figure.savefig(data, format="jpeg", dpi=100, pil_kwargs={"quality": 82})
    return base64.b64encode(data.getvalue()).decode()


def _picture(view: ViewRecord, matched: NDArray[np.int64]) -> ViewPicture:
    image = _image(view)
    scale = np.float32(image.shape[1] / view.network_size[0]), np.float32(image.shape[0] / view.network_size[1])
    factors = np.tile(np.array(scale, np.float32), 2)
    return ViewPicture(
        image=image,
        name=view.name,
        period=view.period * float(scale[0]),
        ground_truth=Layer(view.objects.boxes * factors, view.truth.ids, np.zeros(len(view.truth.ids), bool)),
        detections=Layer(
            view.detections.boxes[matched] * factors,
            np.arange(len(matched)),
            np.ones(len(matched), bool),
            view.detections.scores[matched],
        ),
    )


def _image(view: ViewRecord) -> NDArray[np.uint8]:
    """The image of a view in the size of a page, grey where the file cannot be read any more."""
    width, height = min(WIDTH, view.image_size[0]), view.image_size[1]
    height = round(height * width / view.image_size[0])
    try:
        pixels = load_image(view.image)
    except DataError:
        return np.full((height, width, 3), NO_IMAGE, np.uint8)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
