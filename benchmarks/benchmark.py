"""What a benchmark is, and what it reports.

Convention:
    A benchmark measures ours and its peers in turn, on the same inputs, in one process. What it reports are rows (what
    was measured, with its unit) and ratios. Only ratios of what was measured in the same run say something about the
    package; the rows say something about the machine too. A goal is a number to reach, or not to exceed.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from benchmarks.timing import Times

MILLISECONDS = "ms"


@dataclass(frozen=True)
class Row:
    """Something that was measured.

    Attributes:
        name: of what was measured.
        value: the median, or the only value.
        unit: of the value.
        low: the 10th percentile, or None.
        high: the 90th percentile, or None.
        count: how often it was measured.
    """

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    count: int = 1


@dataclass(frozen=True)
class Ratio:
    """A number that compares, without a machine in it as far as possible.

    Attributes:
        name: what it compares.
        value: the number.
        goal: what to reach, or None if there is nothing to reach.
        at_least: whether the goal is to be reached (True) or not to be exceeded (False).
        unit: what follows the number: "x" for a plain ratio.
    """

    name: str
    value: float
    goal: float | None = None
    at_least: bool = True
    unit: str = "x"

    @property
    def is_reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass
class Report:
    """What a benchmark found.

    Attributes:
        rows: in the order of the table.
        ratios: in the order of the table.
        notes: what a reader has to know.
    """

    rows: list[Row] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_times(self, times: Mapping[str, Times]) -> None:
        """A row for each, in milliseconds."""
        for name, taken in times.items():
            low, high = (1000 * taken.percentile(share) for share in (10, 90))
            self.rows.append(Row(name, 1000 * taken.median, MILLISECONDS, low, high, len(taken.seconds)))


@dataclass(frozen=True)
class Benchmark(ABC):
    """A benchmark; the fields of a subclass are its sizes, with those of a real run as defaults.

    Attributes:
        name: on the command line.
        title: in tables.
        rounds: how often each piece of work is measured.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    rounds: int

    @classmethod
    @abstractmethod
    def tiny(cls) -> "Benchmark":
        """The same with sizes that take a moment and show nothing but that it runs."""

    @abstractmethod
    def measure(self) -> Report:
        """Measures."""
