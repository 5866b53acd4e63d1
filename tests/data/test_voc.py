"""Reading of paired VOC data: what is right in the wild, and what every kind of bad input gets."""

from crossview.data.voc import PairedVocReader
from tests.data.make_voc import write_pair_dataset


def test_pairs_of_a_set_share_objects(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSVIEW_CACHE", str(tmp_path / "cache"))
    root = write_pair_dataset(tmp_path / "data", pairs=3, seed=1)
    found = PairedVocReader(root, ["tree"]).read("train")
    assert found.pairs == [(0, 1), (2, 3), (4, 5)]
    assert len(found.views) == 6
    assert all(set(found.views[a].ids) & set(found.views[b].ids) for a, b in found.pairs)
