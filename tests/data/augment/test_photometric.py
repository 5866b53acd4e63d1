"""Colours: deterministic for a seed, independent of each other, as strong as configured."""

import numpy as np
import pytest

from crossview.data.augment import Photometric

GREY = np.full((4, 4, 3), 100, dtype=np.uint8)
COLOUR = np.full((4, 4, 3), (150, 100, 60), dtype=np.uint8)


def apply(photometric, image, seed):
    return photometric.apply(image, np.random.SeedSequence(seed))


def only(**ranges):
    """Nothing but the given changes."""
    unchanged = {"brightness": 0, "contrast": (1, 1), "saturation": (1, 1), "hue": 0}
    return Photometric(**{"probability": 1.0, **unchanged, **ranges})


def test_the_same_seed_gives_the_same_colours_and_another_seed_gives_others():
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    before = image.copy()
    results = [apply(Photometric(1.0), image, seed) for seed in (1, 2, 1)]
    assert (results[0] == results[2]).all()
    assert (results[0] != results[1]).any()
    assert (image == before).all(), "the input is not touched"
    assert results[0].dtype == np.uint8


def test_changes_are_applied_independently_of_each_other():
    # Saturation 0 makes grey, brightness moves the mean: which of the two happened can be seen.
    photometric = only(probability=0.5, brightness=60, saturation=(0, 0))
    counts = np.zeros((2, 2), dtype=int)
    for seed in range(200):
        pixel = apply(photometric, COLOUR, seed)[0, 0].astype(int)
        is_grey = np.ptp(pixel) == 0
        is_moved = abs(pixel @ (0.299, 0.587, 0.114) - COLOUR[0, 0] @ (0.299, 0.587, 0.114)) > 3
        counts[int(is_grey), int(is_moved)] += 1
    assert counts.min() > 25, f"expected about 50 of each combination, found {counts.tolist()}"


# change, image, function of the result's pixel, its least and largest value
@pytest.mark.parametrize(
    ("photometric", "image", "measure", "low", "high"),
    [
        (only(brightness=32), GREY, lambda p: p[0] - 100, -32, 32),
        (only(contrast=(0.5, 1.5)), GREY, lambda p: p[0] / 100, 0.5, 1.5),
        (only(saturation=(0.5, 1.5)), COLOUR, lambda p: np.ptp(p) / np.ptp(COLOUR[0, 0].astype(int)), 0.5, 1.5),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_strengths_fill_the_configured_range(photometric, image, measure, low, high):
    values = [measure(apply(photometric, image, seed)[0, 0].astype(int)) for seed in range(120)]
    margin = 0.06 * (high - low)
    assert low - margin <= min(values) <= low + margin
    assert high - margin <= max(values) <= high + margin


def test_hue_turns_the_colour_circle_by_degrees():
    red = np.full((4, 4, 3), (200, 20, 20), dtype=np.uint8)
    turned = [apply(only(hue=36), red, seed)[0, 0].astype(int) for seed in range(120)]
    # 36 degrees towards yellow lift green by 36 / 60 of the range of 180 levels, towards magenta blue by as much.
    assert max(pixel[1] for pixel in turned) == pytest.approx(20 + 180 * 36 / 60, abs=12)
    assert max(pixel[2] for pixel in turned) == pytest.approx(20 + 180 * 36 / 60, abs=12)
    assert all(pixel[0] == pytest.approx(200, abs=2) for pixel in turned)


def test_probability_zero_changes_nothing():
    assert (apply(Photometric(0.0), COLOUR, 3) == COLOUR).all()
