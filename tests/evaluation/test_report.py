import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import MatchSettings
from crossview.evaluation.curves import precision_recall, reliability
from crossview.evaluation.gallery import choose, qualities
from crossview.evaluation.outcomes import PairNumbers
from crossview.evaluation.records import with_annotated_boxes
from crossview.evaluation.report import write_report
from crossview.evaluation.scoring import Ranked, score
from crossview.metrics.matching import FALSE_POSITIVE, NEUTRAL, TRUE_POSITIVE
from tests.evaluation.scenes import SETTINGS, cached, without_detections

VOID = {"meta", "img", "br"}
T, F, N = TRUE_POSITIVE, FALSE_POSITIVE, NEUTRAL


class Page(HTMLParser):
    """Elements of a page, which must be closed as they were opened."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def perfect(pair_root):
    return [with_annotated_boxes(scene) for scene in cached(pair_root)[0]]


def report(scenes, path, maps=(), **settings):
    outcome = score(scenes, PairMatcher(), MatchSettings())
    write_report(path, scenes, outcome, {**SETTINGS, **settings}, 0.3, maps)
    return path.read_text()


def test_the_page_needs_nothing_else(perfect, tmp_path):
    text = report(perfect, tmp_path / "report.html")
    page = Page(text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    sources = [attrs[name] for _, attrs in page.found for name in ("src", "href", "xlink:href") if name in attrs]
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"@import|url\((?!#)|<script|<link", text)
    assert sum(tag == "svg" for tag, _ in page.found) == 6
    for title in ("pure geometry", "appearance only", "geometry and appearance, unrefined", "everything"):
        assert title in text
    names = [attrs["id"] for _, attrs in page.found if "id" in attrs]
    used = {source[1:] for source in sources if source.startswith("#")}
    assert used <= set(names)


def test_pictures_show_both_views(perfect, tmp_path):
    text = report(perfect, tmp_path / "report.html")
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
    assert len(pictures) == 2
    image = Image.open(io.BytesIO(base64.b64decode(pictures[0])))
    assert image.width > 1000
    assert np.asarray(image).std() > 10


def test_parts_of_the_map_are_shown_with_a_legend(perfect, tmp_path):
    without, text = (report(perfect, tmp_path / "report.html", maps) for maps in ((), ["<svg>1</svg>", "<svg>2</svg>"]))
    assert "<h2>Map</h2>" not in without
    assert "<svg>1</svg></div>\n<div><svg>2</svg>" in text
    assert text.count('class="swatch"') == without.count('class="swatch"') + 5
    Page(text)


def test_names_are_escaped(perfect, tmp_path):
    evil = '<script>alert("x")</script>'
    scenes = [
        scene._replace(views=tuple(view._replace(name=evil, image="") for view in scene.views)) for scene in perfect
    ]
    text = report(scenes, tmp_path / "report.html", checkpoint=evil, class_names=[evil], split=evil)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 4


def test_nothing_detected_still_makes_a_page(perfect, tmp_path):
    Page(report([without_detections(scene) for scene in perfect], tmp_path / "report.html"))


# --- what is drawn ---


def test_precision_and_recall_by_hand():
    recall, precision = precision_recall(Ranked(torch.tensor([0.1, 0.9, 0.5, 0.7]), torch.tensor([T, T, N, F]), 4))
    assert recall.tolist() == [0.25, 0.25, 0.5]
    assert precision == pytest.approx([1, 1 / 2, 2 / 3])


def test_reliability_by_hand():
    said = np.array([0.11, 0.13, 0.12, 0.12, 0.12, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5])
    truth = np.array([True, False, False, False, False, True, True, True, True, False, True])
    mean, share, count = reliability(said, truth)
    assert mean == pytest.approx([0.12, 1.0])
    assert share == pytest.approx([0.2, 0.8])
    assert count.tolist() == [5, 5]  # a bin of one says nothing


@pytest.mark.parametrize(("number", "kinds"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (9, (2, 2, 2))])
def test_the_gallery_has_no_pair_twice(number, kinds):
    # Every pair has 12 matches and 12 objects to find; the n-th has n wrong ones.
    flags = [np.where(np.arange(12) < wrong, F, T) for wrong in range(number)]
    quality = qualities(numbers([12] * number, [12] * number, np.concatenate(flags)), 0.3)
    np.testing.assert_allclose(quality.f1, [(12 - wrong) / 12 for wrong in range(number)])
    chosen = choose(quality)
    assert tuple(len(found) for found in chosen.values()) == kinds
    shown = [pair for kind in chosen.values() for pair in kind]
    assert shown == sorted(set(shown))


def test_quality_of_a_pair_by_hand():
    counts, shared, flags = [3, 0, 2, 1], [2, 4, 0, 1], np.array([T, F, N, T, F, T])
    quality = qualities(numbers(counts, shared, flags, np.array([0.9, 0.5, 0.4, 0.8, 0.2, 0.1])), 0.3)
    assert quality.right.tolist() == [1, 0, 1, 0]  # the last one's score is too low
    assert quality.wrong.tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(quality.f1, [2 / 4, 0, np.nan, 0])
    assert choose(quality) == {"best": [0], "median": [1], "worst": [3]}  # without objects there is nothing to see


def numbers(counts, shared, flags, scores=None):
    nothing = np.zeros(len(counts))
    scores = np.ones(len(flags)) if scores is None else scores
    return PairNumbers(np.array(counts), np.array(shared), nothing > 0, nothing, scores, flags)
