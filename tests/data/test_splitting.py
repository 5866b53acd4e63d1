"""Parts of a set of images by name and seed."""

import pytest

from crossview.data.splitting import PARTS, RandomSplit

NAMES = [f"image {number}" for number in range(4000)]


def test_the_parts_have_their_shares():
    split = RandomSplit(val=0.1, test=0.25, seed=3)
    parts = [split.part(name) for name in NAMES]
    shares = [parts.count(part) / len(parts) for part in PARTS]
    assert shares == pytest.approx([0.65, 0.1, 0.25], abs=0.025)  # over three standard deviations


def test_a_seed_draws_independently_of_another():
    one, other = RandomSplit(seed=0), RandomSplit(seed=1)
    both = sum(one.part(name) == other.part(name) == "test" for name in NAMES)
    assert both / len(NAMES) == pytest.approx(0.2**2, abs=0.012)


def test_a_larger_share_keeps_the_images_of_the_smaller_one():
    small, large = RandomSplit(val=0.0, test=0.1), RandomSplit(val=0.0, test=0.3)
    assert all(large.part(name) == "test" for name in NAMES if small.part(name) == "test")


def test_the_split_is_the_same_everywhere():
    # u = BLAKE2b-64 of "0/photo-<n>" over 2^64; test below 0.2, val below 0.3
    parts = {f"photo-{number}": RandomSplit().part(f"photo-{number}") for number in range(12)}
    assert [name for name, part in parts.items() if part == "test"] == ["photo-2"]
    assert [name for name, part in parts.items() if part == "val"] == ["photo-10"]
