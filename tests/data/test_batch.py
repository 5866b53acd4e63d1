"""Joining samples into batches."""

import pytest
import torch

from crossview.data.batch import Objects, PairSample, collate
from crossview.geometry.camera import Camera


def objects(count, first_id=2**60):
    """Objects with ids that a float cannot hold."""
    number = torch.arange(count)
    return Objects(
        boxes=torch.rand(count, 4),
        labels=number + 1,
        ids=number + first_id,
        has_id=torch.ones(count, dtype=torch.bool),
        difficult=number % 2 == 0,
        present=torch.ones(count, dtype=torch.bool),
        location=torch.rand(count, 2),
        has_location=torch.ones(count, dtype=torch.bool),
    )


def sample(index, first, second, size=(4, 6)):
    pixels = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    camera = Camera(torch.rand(2, 2), torch.ones(2), torch.rand(2), torch.rand(2, 2), torch.rand(2, 2))
    sizes, views = torch.tensor([[2048, 1024], [512, 256 + index]]), torch.tensor([index, index + 1])
    names = (f"a{index}", f"b{index}")
    return PairSample(pixels.permute(0, 3, 1, 2), (objects(first), objects(second)), camera, sizes, views, index, names)


# numbers of objects in both views of each pair, slots in the batch
@pytest.mark.parametrize(
    ("counts", "slots"),
    [
        ([(2, 5)], 5),  # one pair
        ([(0, 0)], 1),  # nothing at all still has a slot
        ([(0, 3), (1, 0), (2, 2)], 3),  # the largest view of the batch decides
    ],
)
def test_objects_are_padded_to_the_largest_view(counts, slots):
    samples = [sample(index, *count) for index, count in enumerate(counts)]
    batch = collate(samples)
    assert batch.objects.boxes.shape == (len(counts), 2, slots, 4)
    assert batch.objects.present.sum(dim=-1).tolist() == [list(count) for count in counts]
    for field in Objects._fields:
        padded = getattr(batch.objects, field)
        for pair, single in zip(padded, samples, strict=True):
            for view, own in zip(pair, single.objects, strict=True):
                rows = getattr(own, field)
                assert view.dtype == rows.dtype
                assert torch.equal(view[: len(rows)], rows)
                assert not view[len(rows) :].any(), "padding is zero"


def test_everything_else_is_stacked_in_order():
    samples = [sample(index, 1, 2) for index in (7, 3)]
    batch = collate(samples)
    for number, single in enumerate(samples):
        assert torch.equal(batch.images[number], single.images)
        assert all(torch.equal(field[number], own) for field, own in zip(batch.cameras, single.cameras, strict=True))
        assert torch.equal(batch.panorama_size[number], single.panorama_size)
    assert batch.pair_index.tolist() == [7, 3]
    assert batch.view_index.tolist() == [[7, 8], [3, 4]]
    assert batch.names == [("a7", "b7"), ("a3", "b3")]


def test_both_views_run_as_one_channels_last_batch_without_a_copy():
    batch = collate([sample(index, 1, 1) for index in range(3)])
    flat = batch.images.flatten(0, 1)
    assert flat.shape == (6, 3, 4, 6)
    assert flat.is_contiguous(memory_format=torch.channels_last)
    assert flat.data_ptr() == batch.images.data_ptr()
