"""Puts results into the documentation: ``python -m benchmarks.table [FILE ...] [--page docs/performance.md]``.

Without files the newest of ``outputs/bench/``. Of a benchmark that several files have, the last one counts. The tables
stand between two marks in the page, which nothing else touches.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.run import BENCHMARKS, FOLDER
from crossview.files import write_whole

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def number(value: float) -> str:
    """Three digits, or all of a large number."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine_line(machine: Mapping[str, Any]) -> str:
    """What the numbers were measured on."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    load = "" if machine["load"] is None else f", load {machine['load']:.1f} at the start"
    return (
        f"{machine['processor']} ({machine['instructions']}), {machine['cores']} cores, {machine['threads']} threads"
        f"{load}; product of matrices {machine['gflops_one_thread']:.0f} GFLOP/s on one thread, "
        f"{machine['gflops']:.0f} on all. "
        f"{machine['system']}, {versions}."
    )


def section(name: str, result: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """The tables of one benchmark."""
    lines = [f"### {result['title']}", "", f"`python -m benchmarks.run {name}`", ""]
    lines += ["| compared | | goal | |", "|---|---|---|---|"]
    for ratio in result["ratios"]:
        goal = reached = ""
        if ratio["goal"] is not None:
            above = ratio["at_least"]
            goal = f"{'at least' if above else 'at most'} {ratio['goal']:g}"
            met = ratio["value"] >= ratio["goal"] if above else ratio["value"] <= ratio["goal"]
            reached = "reached" if met else "missed"
        unit = " x" if ratio["unit"] == "x" else f" {ratio['unit']}"
        lines.append(f"| {ratio['name']} | {number(ratio['value'])}{unit} | {goal} | {reached} |")
    lines += ["", "| measured | median | 10 % to 90 % | times |", "|---|---|---|---|"]
    for row in result["rows"]:
        spread = "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"
        lines.append(f"| {row['name']} | {number(row['value'])} {row['unit']} | {spread} | {row['count']} |")
    notes = " ".join(f"{note[0].upper()}{note[1:]}." for note in result["notes"])
    return "\n".join([*lines, "", notes, machine_line(machine), ""])


def tables(files: Sequence[Path]) -> str:
    """The tables of the results in files, a later one before an earlier one.

    Raises:
        SystemExit: a file holds the results of a trial.
    """
    found: dict[str, str] = {}
    for path in files:
        content = json.loads(path.read_text())
        if content["tiny"]:
            raise SystemExit(f"{path}: made with --tiny, which measures nothing; run the benchmarks without it")
        found |= {name: section(name, result, content["machine"]) for name, result in content["benchmarks"].items()}
    return "\n".join(found[name] for name in BENCHMARKS if name in found)


def put(page: str, content: str) -> str:
    """The page with new tables.

    Raises:
        SystemExit: it has no place for them.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise SystemExit(f"the page has no place for the tables: expected one line {BEGIN} and after it one {END}")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{content}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the page.

    Args:
        arguments: of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="results; the newest by default")
    parser.add_argument("--page", type=Path, default=PAGE, help="what to write into")
    options = parser.parse_args(arguments)
    files = options.files or sorted(FOLDER.glob("*.json"))[-1:]
    if not files:
        parser.error(f"found no results in {FOLDER}; run `python -m benchmarks.run` first")
    write_whole(options.page, put(options.page.read_text(), tables(files)))
    print(options.page)


if __name__ == "__main__":
    main()
