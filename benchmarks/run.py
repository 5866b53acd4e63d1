"""Runs benchmarks: ``python -m benchmarks.run [name ...] [--rounds N] [--threads N] [--tiny] [--out DIR]``.

Without names all of them, which takes about an hour on two cores. Results are printed and written to
``outputs/bench/<date>.json`` after every benchmark; ``python -m benchmarks.table`` makes a table of them.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.augmentation import AugmentationSpeed
from benchmarks.average_precision import AveragePrecisionSpeed
from benchmarks.benchmark import Benchmark, Report
from benchmarks.data_pipeline import DataPipeline
from benchmarks.encode_decode import EncodeDecode
from benchmarks.growth import Growth
from benchmarks.inference import Inference
from benchmarks.machine import SIDE, describe
from benchmarks.training_step import TrainingStep
from crossview.files import write_whole

BENCHMARKS: dict[str, type[Benchmark]] = {
    kind.name: kind
    for kind in (
        TrainingStep,
        Inference,
        EncodeDecode,
        AveragePrecisionSpeed,
        AugmentationSpeed,
        DataPipeline,
        Growth,
    )
}
FOLDER = Path(__file__).parents[1] / "outputs" / "bench"


def result_of(benchmark: Benchmark, report: Report) -> dict[str, Any]:
    """A report as plain values."""
    return {
        "title": benchmark.title,
        "settings": asdict(benchmark),
        "rows": [asdict(row) for row in report.rows],
        "ratios": [asdict(ratio) for ratio in report.ratios],
        "notes": report.notes,
    }


def show(name: str, report: Report) -> None:
    """Prints a report."""
    print(f"\n{name}")
    for row in report.rows:
        spread = "" if row.low is None else f"  ({row.low:.4g} to {row.high:.4g}, {row.count} times)"
        print(f"  {row.name:62s} {row.value:10.4g} {row.unit}{spread}")
    for ratio in report.ratios:
        goal = ""
        if ratio.goal is not None:
            sign = "at least" if ratio.at_least else "at most"
            goal = f"  {sign} {ratio.goal:g}: {'reached' if ratio.is_reached else 'missed'}"
        print(f"  {ratio.name:62s} {ratio.value:10.4g} {ratio.unit}{goal}")
    for note in report.notes:
        print(f"  {note}")


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measures, prints and writes.

    Args:
        arguments: of the command line; None for those of this process.

    Returns:
        The file that was written.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, help="how often each piece of work is measured")
    parser.add_argument("--threads", type=int, help="of PyTorch; all cores by default")
    parser.add_argument("--tiny", action="store_true", help="sizes that take a moment and only show that it runs")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; expected some of {', '.join(BENCHMARKS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected 1 or more")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    machine = describe(64 if options.tiny else SIDE)
    print("\n".join(f"{key:18s} {value}" for key, value in machine.items()), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    path: Path = options.out / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
    results: dict[str, Any] = {}
    for name in options.names or BENCHMARKS:
        kind = BENCHMARKS[name]
        benchmark = kind.tiny() if options.tiny else kind()  # type: ignore[call-arg]  # sizes have defaults
        if options.rounds is not None:
            benchmark = replace(benchmark, rounds=options.rounds)
        report = benchmark.measure()
        show(name, report)
        results[name] = result_of(benchmark, report)
        content = {"machine": machine, "tiny": options.tiny, "benchmarks": results}
        write_whole(path, json.dumps(content, indent=1) + "\n")
    print(f"\n{path}")
    return path


if __name__ == "__main__":
    main()
