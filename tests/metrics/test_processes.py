"""Metrics over several processes; this file is also the program of each of them (see the end)."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import crossview
from crossview.data.batch import Objects
from crossview.detector.detections import ViewDetections
from crossview.dual.placed import PlacedDetections
from crossview.metrics import CrossViewMetrics, DetectionAP
from tests.two_processes import outputs_of_two

TIME_LIMIT = 60.0  # seconds; starting takes most of a few, so a hang fails and a slow machine does not
PAIRS = 11
# What each of two processes sees: batches of pairs.
SPLITS = {
    "one without any": [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]], []],
    "uneven, with repetitions": [[[0, 1], [2, 3], [4, 5], [0, 1]], [[10, 9, 8, 7, 6, 5]]],
}


def pairs() -> tuple[Tensor, ViewDetections, PlacedDetections, Objects]:
    """Numbers of views, detections, places and objects of random pairs; neighbouring pairs share a view."""
    draw = torch.Generator().manual_seed(0)
    low = 150 * torch.rand(PAIRS + 1, 6, 2, generator=draw)
    boxes = torch.cat((low, low + 20 + 30 * torch.rand(PAIRS + 1, 6, 2, generator=draw)), dim=-1)
    labels = torch.randint(1, 3, (6,), generator=draw).expand(PAIRS + 1, 6)
    random = torch.rand(6, PAIRS + 1, 6, generator=draw)
    present, found, difficult, has_id = random[0] < 0.8, random[1] < 0.8, random[2] < 0.1, random[3] < 0.9
    noisy = boxes + 5 * torch.randn(boxes.shape, generator=draw)
    views = torch.stack((torch.arange(PAIRS), torch.arange(PAIRS) + 1), dim=1)
    ids = (2**24 + torch.arange(6)).expand(PAIRS + 1, 6)
    location = torch.zeros(PAIRS + 1, 6, 2)
    detections = ViewDetections(*(f[views] for f in (noisy, (random[4] * 5).round() / 5, labels, found)))
    objects = Objects(
        *(f[views] for f in (boxes, labels, ids, has_id, difficult, present, location, torch.zeros_like(present)))
    )
    places = noisy[views].flip(1) + 4 * torch.randn(PAIRS, 2, 6, 4, generator=draw)
    valid = torch.rand(PAIRS, 2, 6, generator=draw) < 0.9
    placed = PlacedDetections(places, valid, noisy[views].flip(1), valid, random[5][views])
    return views, detections, placed, objects


def values(batches: list[list[int]]) -> dict[str, float]:
    """Both metrics after the given batches, in a second epoch that follows a reset."""
    views, detections, placed, objects = pairs()
    single, cross = DetectionAP(), CrossViewMetrics()
    for epoch_batches in (batches[:1], batches):
        single.reset()
        cross.reset()
        for batch in epoch_batches:
            rows = torch.tensor(batch)
            own = ViewDetections(*(f[rows] for f in detections))
            truth = Objects(*(f[rows] for f in objects))
            single.update(views[rows], own, truth, 200.0)
            cross.update(rows, own, PlacedDetections(*(f[rows] for f in placed)), truth, 200.0)
        results = {f"detection/{name}": value for name, value in single.compute().items()}
        results |= {f"cross/{name}": value for name, value in cross.compute().items()}
    return {name: float(value) for name, value in results.items()}


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    expected = values([list(range(PAIRS))])
    assert all(0.05 < value < 50 and value != 1.0 for value in expected.values())
    program = [sys.executable, __file__, str(tmp_path / "meeting")]
    environment = {**os.environ, "PYTHONPATH": str(Path(crossview.__file__).parents[1])}  # the same package as here
    for output in outputs_of_two(program, environment, TIME_LIMIT):
        results = json.loads(output)
        assert list(results) == list(SPLITS)
        for name, result in results.items():
            assert result == pytest.approx(expected, abs=1e-9), name


def main(meeting: str, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=TIME_LIMIT / 2)
    )
    print(json.dumps({name: values(split[rank]) for name, split in SPLITS.items()}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
