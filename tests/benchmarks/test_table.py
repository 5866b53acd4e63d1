import json

import pytest

from benchmarks.table import BEGIN, END, main, put

MACHINE = {
    "processor": "A processor",
    "instructions": "AVX2",
    "cores": 2,
    "threads": 2,
    "load": 0.5,
    "gflops_one_thread": 67.0,
    "gflops": 134.0,
    "system": "Linux x86_64",
    "versions": {"python": "3.11", "pycocotools": None},
}
ROW = {"name": "ours", "value": 8070.4, "unit": "ms", "low": 8000.0, "high": 8100.0, "count": 7}
RATIO = {"name": "theirs / ours", "value": 1.2, "unit": "x", "goal": 1.35, "at_least": True}


def results(tmp_path, name, value, tiny=False):
    path = tmp_path / f"{name}-{value}.json"
    result = {"title": name, "rows": [ROW], "ratios": [{**RATIO, "value": value}], "notes": ["a batch of 1"]}
    path.write_text(json.dumps({"machine": MACHINE, "tiny": tiny, "benchmarks": {name: result}}))
    return str(path)


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nthe end\n")
    return path


def test_writes_tables_between_the_marks_and_leaves_the_rest(tmp_path, page):
    files = [results(tmp_path, "growth", 1.2), results(tmp_path, "inference", 1.5), results(tmp_path, "growth", 1.4)]
    main([*files, "--page", str(page)])
    text = page.read_text()
    assert text.startswith("# Title\n\n")
    assert text.endswith("\n\nthe end\n")
    assert "old" not in text
    assert "| theirs / ours | 1.4 x | at least 1.35 | reached |" in text
    assert "1.2 x" not in text  # the later file counts
    assert "| ours | 8070 ms | 8000 to 8100 | 7 |" in text
    assert "A processor (AVX2), 2 cores, 2 threads, load 0.5 at the start; product of matrices 67 GFLOP/s" in text
    assert "pycocotools" not in text
    assert text.index("### inference") < text.index("### growth")
    main([*files, "--page", str(page)])
    assert page.read_text() == text


@pytest.mark.parametrize(
    ("value", "at_least", "word"), [(1.3, True, "missed"), (1.3, False, "reached"), (1.4, False, "missed")]
)
def test_says_whether_a_goal_is_reached(value, at_least, word, tmp_path, page, monkeypatch):
    monkeypatch.setitem(RATIO, "at_least", at_least)
    main([results(tmp_path, "growth", value), "--page", str(page)])
    assert f"| theirs / ours | {value} x | {'at least' if at_least else 'at most'} 1.35 | {word} |" in page.read_text()


def test_refuses_trials_and_pages_without_a_place(tmp_path, page):
    before = page.read_text()
    with pytest.raises(SystemExit, match="made with --tiny"):
        main([results(tmp_path, "growth", 1.2, tiny=True), "--page", str(page)])
    assert page.read_text() == before
    with pytest.raises(SystemExit, match="no place for the tables"):
        put("# Title\n", "tables")
