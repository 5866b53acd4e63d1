"""What the picture of a sweep shows."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from crossview.sweeps.jobs import Job, Status
from crossview.sweeps.picture import draw_sweep, varying


def job(number, status=Status.OK, metric=None, mode="max", **overrides):
    return Job(number, "s", f"s/{number}", overrides, "val/ap", mode, 0.0, status, metric)


MIXED = [
    job(0, metric=0.2, lr="1e-4", augment="none", seed="0"),
    job(1, Status.FAILED, lr="1e-2", augment="none", seed="0"),
    job(2, Status.PRUNED, metric=0.1, lr="1e-3", augment="ssd", seed="0"),
    job(3, Status.UNFINISHED, lr="1e-3", augment="ssd", seed="0"),
]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws jobs and returns the figure."""
    kept = []
    save = Figure.savefig

    def keep(self, *arguments, **settings):
        kept.append(self)
        save(self, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(jobs):
        draw_sweep(tmp_path / "sweep.png", jobs)
        return kept[-1]

    return draw


def test_settings_that_all_jobs_share_are_not_drawn():
    assert varying(MIXED) == ["lr", "augment"]
    assert varying([job(0, lr="1"), job(1)]) == ["lr"]


def test_one_panel_for_the_jobs_and_one_for_each_setting(drawn, tmp_path):
    axes = drawn(MIXED).axes
    assert [panel.get_xlabel() for panel in axes] == ["job", "lr", "augment"]
    assert axes[0].get_ylabel() == "val/ap"
    assert [panel.get_xscale() for panel in axes] == ["linear", "log", "linear"]
    assert [label.get_text() for label in axes[2].get_xticklabels()] == ["none", "ssd"]
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["ok", "pruned", "failed", "unfinished"]
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(("count", "rotation"), [(5, 20), (6, 90)])
def test_many_labels_stand_upright(count, rotation, drawn):
    panel = drawn([job(number, metric=0.5, variant=f"v{number}") for number in range(count)]).axes[1]
    assert [label.get_text() for label in panel.get_xticklabels()] == [f"v{number}" for number in range(count)]
    assert {label.get_rotation() for label in panel.get_xticklabels()} == {rotation}


def points(panel, marker):
    found = [line for line in panel.get_lines() if line.get_marker() == marker]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in found]


def test_every_job_is_a_point(drawn):
    panel = drawn(MIXED).axes[1]
    assert points(panel, "o") == [(1e-4, 0.2), (1e-3, 0.1)]
    assert [place for place, _ in points(panel, "x")] == [1e-2, 1e-3]


@pytest.mark.parametrize(("mode", "expected"), [("max", [0.2, 0.2, 0.4]), ("min", [0.2, 0.1, 0.1])])
def test_the_line_is_the_best_so_far(mode, expected, drawn):
    jobs = [job(number, metric=metric, mode=mode) for number, metric in enumerate((0.2, 0.1, 0.4))]
    (line,) = [line for line in drawn(jobs).axes[0].get_lines() if line.get_marker() == "None"]
    assert list(line.get_ydata()) == expected


def test_jobs_without_any_metric_are_drawn(drawn):
    assert len(points(drawn([job(0, Status.FAILED), job(1, seed="2")]).axes[0], "x")) == 2
