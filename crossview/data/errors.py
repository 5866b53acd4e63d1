"""The one exception for bad data, and the collector that reports many faults at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SHOWN: Final = 10
"""Places listed for each kind of fault; the rest is counted."""


class DataError(ValueError):
    """Bad data or a bad data setting: says where, what was found, what was expected and what to do."""


class Problems:
    """Faults found while reading, grouped by kind, raised together so that a user can mend them all at once."""

    def __init__(self, root: Path) -> None:
        """Start without faults.

        Args:
            root: The folder named in the message.
        """
        self._root = root
        self._places: dict[str, list[str]] = {}

    def __len__(self) -> int:
        """Number of faults so far."""
        return sum(len(places) for places in self._places.values())

    def add(self, kind: str, place: str) -> None:
        """Note one fault.

        Args:
            kind: What is wrong, what was expected and what to do; the same text for all faults of a kind.
            place: Where (file and line) and what was found there.
        """
        self._places.setdefault(kind, []).append(place)

    def raise_if_any(self) -> None:
        """Raise everything noted so far as one error.

        Raises:
            DataError: If there is at least one fault; the first `SHOWN` places of every kind are listed.
        """
        if self._places:
            count = len(self)
            noun = "fault" if count == 1 else "faults"
            raise DataError(f"{count} {noun} in the data under {self._root}\n{_report(self._places)}")


@dataclass(frozen=True, slots=True)
class Report:
    """Where findings go.

    Attributes:
        problems: Takes what is wrong.
        notices: Takes one-line remarks that the user should see once.
    """

    problems: Problems
    notices: list[str]


def _report(places_of: Mapping[str, list[str]]) -> str:
    """The kinds of fault, one block each, with the first places and the number of the others."""
    lines: list[str] = []
    for kind, places in places_of.items():
        lines.append(f"{kind} ({len(places)}):")
        lines.extend(f"    {place}" for place in places[:SHOWN])
        if len(places) > SHOWN:
            lines.append(f"    ... and {len(places) - SHOWN} more")
    return "\n".join(lines)
