import numpy as np

from crossview.dual.assignment import assign, with_offers


def test_assignment_weighs_matches_against_none():
    # The best sum takes the second best for the first row; a negative score is worse than no counterpart.
    rows, columns = assign(np.array([[5.0, 4.0], [4.0, -np.inf], [-1.0, -2.0]]))
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [1, 0]
    assert len(assign(np.array([[-1.0]]))[0]) == 0
    assert len(assign(np.zeros((0, 3)))[0]) == 0


def test_unlikely_matches_take_nothing_from_likely_ones():
    # Both unlikely ones together would gain more from the offer than the likely one.
    scores = np.array([[2.5, 0.4, -np.inf], [0.4, -4.0, -np.inf], [-np.inf, -1.0, -np.inf]])
    rows, columns = with_offers(scores)
    assert rows.tolist() == [0, 2]
    assert columns.tolist() == [0, 1]
    assert [len(part) for part in with_offers(np.zeros((0, 3)))] == [0, 0]
