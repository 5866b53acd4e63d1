"""Overlap and conversions of boxes against ssd_keras's, "half" border: the continuous boxes that we have."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from crossview.geometry.boxes import iou, pairwise_iou, to_centers, to_corners

GOLDEN = Path(__file__).parents[1] / "golden"


def load(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


@pytest.mark.parametrize("kind", ["unit", "pixel", "int"])  # relative, pixels, whole pixels
def test_overlaps_of_the_reference(kind):
    golden = load("iou")
    first, second = golden[f"{kind}_boxes1"].double(), golden[f"{kind}_boxes2"].double()
    table = pairwise_iou(first, second)
    assert int((table > 0).sum()) > 100
    assert_close(table, golden[f"{kind}_half_iou_outer_ref"], rtol=0, atol=1e-12)
    assert_close(iou(first, second[: len(first)]), golden[f"{kind}_half_iou_elem_ref"], rtol=0, atol=1e-12)
    assert_close(
        pairwise_iou(to_corners(to_centers(first)), to_corners(to_centers(second))),
        golden[f"{kind}_half_iou_outer_ref_centroids"],
        rtol=0,
        atol=1e-12,
    )


def test_conversions_of_the_reference():
    golden = load("convert")
    assert len(golden["in_corners"]) == 250
    assert_close(to_centers(golden["in_corners"]), golden["corners2centroids_half"], rtol=0, atol=1e-12)
    assert_close(to_corners(golden["in_centroids"]), golden["centroids2corners_half"], rtol=0, atol=1e-12)
