import json
import math

import pytest

from benchmarks.run import BENCHMARKS, main


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_runs_and_leaves_its_numbers(name, tmp_path, capsys):
    path = main([name, "--tiny", "--out", str(tmp_path)])
    content = json.loads(path.read_text())
    assert content["machine"]["gflops"] > 0
    assert content["machine"]["cores"] >= 1
    (result,) = content["benchmarks"].values()
    assert result["rows"]
    assert result["ratios"]
    for entry in [*result["rows"], *result["ratios"]]:
        assert math.isfinite(entry["value"]), entry
        assert entry["value"] >= 0, entry
    assert all(ratio["name"] in capsys.readouterr().out for ratio in result["ratios"][:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["growht"], "there is no benchmark growht; expected some of training_step"),
        (["growth", "--rounds", "0"], "--rounds 0: expected 1 or more"),
    ],
)
def test_says_what_is_wrong(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*arguments, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
