"""Order and shares of the pairs."""

import pytest

from crossview.data.sampling import ShardSampler, TrainSampler


def orders(size, world_size, epoch, seed=0):
    """What each process draws."""
    samplers = [TrainSampler(range(size), seed, rank, world_size) for rank in range(world_size)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    drawn = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(order) for order in drawn]
    return drawn


# pairs, processes
@pytest.mark.parametrize(("size", "world_size"), [(10, 1), (10, 2), (10, 3), (2, 5), (1, 1)])
def test_training_covers_all_pairs_and_gives_all_processes_equally_many(size, world_size):
    drawn = orders(size, world_size, epoch=4)
    assert len({len(order) for order in drawn}) == 1
    keys = [key for order in drawn for key in order]
    assert {index for _, index in keys} == set(range(size))
    assert {epoch for epoch, _ in keys} == {4}
    assert len(keys) - size < world_size


def test_the_training_order_depends_on_seed_and_epoch():
    def order(**which):
        return [index for _, index in orders(50, 1, **which)[0]]

    assert order(epoch=1) == order(epoch=1)
    assert order(epoch=1) != order(epoch=2)
    assert order(epoch=1) != order(epoch=1, seed=1)
    assert order(epoch=1) != list(range(50))


# pairs, processes
@pytest.mark.parametrize(("size", "world_size"), [(10, 1), (10, 3), (11, 4), (1, 2), (0, 2)])
def test_evaluation_sees_every_pair_once_in_uneven_shares(size, world_size):
    samplers = [ShardSampler(range(size), rank, world_size) for rank in range(world_size)]
    shares = [list(sampler) for sampler in samplers]
    assert sorted(index for share in shares for index in share) == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [len(sampler) for sampler in samplers] == [len(share) for share in shares]
