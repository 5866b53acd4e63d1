import pytest
import torch

from crossview.dual.identity import find_counterparts


def ids(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int64)


def valid(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool)


@pytest.mark.parametrize(
    ("ids_i", "valid_i", "ids_j", "valid_j", "expected"),
    [
        ([7, 8, 9], [1, 1, 1], [9, 7], [1, 1], [1, -1, 0]),  # plain, with different numbers of objects
        ([7, 8], [0, 1], [7, 8], [1, 0], [-1, -1]),  # an invalid one on either side
        ([0, 0], [0, 0], [0, 0], [0, 0], [-1, -1]),  # padding is not an identity
        ([0, -1], [1, 1], [-1, 0], [1, 1], [1, 0]),  # zero and negative numbers are
        ([5], [1], [4, 5, 5], [1, 1, 1], [1]),  # the first of two
        ([5], [1], [5, 5], [0, 1], [1]),  # the first valid one
        ([2**24, 2**24 + 1], [1, 1], [2**24 + 1], [1], [-1, 0]),  # neighbours that float32 merges
        ([2**62, 2**62 + 1], [1, 1], [2**62 + 1], [1], [-1, 0]),  # neighbours that float64 merges
    ],
)
def test_counterparts(
    ids_i: list[int], valid_i: list[int], ids_j: list[int], valid_j: list[int], expected: list[int]
) -> None:
    index, found = find_counterparts(ids(ids_i), valid(valid_i), ids(ids_j), valid(valid_j))
    assert index.tolist() == [expected]
    assert index.dtype == torch.int64
    assert found.tolist() == [[number >= 0 for number in expected]]


def test_every_item_of_a_batch_by_itself() -> None:
    index, _ = find_counterparts(
        ids([1, 2], [1, 2]), valid([1, 1], [1, 1]), ids([2, 1, 0], [3, 0, 1]), valid([1, 1, 0], [1, 0, 1])
    )
    assert index.tolist() == [[1, 0], [2, -1]]


@pytest.mark.parametrize(("count_i", "count_j"), [(0, 3), (3, 0), (0, 0)])  # no objects in one view, in both
def test_no_objects(count_i: int, count_j: int) -> None:
    ids_i, ids_j = torch.zeros(2, count_i, dtype=torch.int64), torch.zeros(2, count_j, dtype=torch.int64)
    index, found = find_counterparts(ids_i, torch.ones_like(ids_i).bool(), ids_j, torch.ones_like(ids_j).bool())
    assert index.shape == found.shape == (2, count_i)
    assert not found.any()


def test_float_identities_are_refused() -> None:
    with pytest.raises(TypeError, match="ids_j must be int64"):
        find_counterparts(ids([1]), valid([1]), ids([1]).float(), valid([1]))
