import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import MatchSettings
from crossview.evaluation.curves import precision_recall, reliability
from crossview.evaluation.gallery import choose, quality
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


def report(scenes, path, **settings):
    write_report(path, score(scenes, PairMatcher(), MatchSettings()), {**SETTINGS, **settings}, 0.3)
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
def test_the_gallery_has_no_pair_twice(number, kinds, perfect):
    outcome = score(perfect, PairMatcher(), MatchSettings()).baselines[-1].scenes[0]
    matches = len(outcome.flags)
    assert matches >= 2
    scenes = []
    for wrong in range(number):
        flags = torch.where(torch.arange(matches) < wrong % (matches + 1), F, T)
        scenes.append(replace(outcome, flags=flags, scene=outcome.scene._replace(number=wrong)))
    chosen = choose(scenes, 0.0)
    assert tuple(len(found) for found in chosen.values()) == kinds
    shown = [found.scene.number for kind in chosen.values() for found in kind]
    assert len(shown) == len(set(shown))
    values = [quality(found, 0.0) for kind in chosen.values() for found in kind]
    assert values == sorted(values, reverse=True)
