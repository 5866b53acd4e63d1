"""Work on many files: in several threads, with a progress bar."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def with_bar(items: Iterable[_Item], description: str, total: int, *, shown: bool) -> Iterable[_Item]:
    """The same items; on a terminal a bar on standard error shows how far they are, if it is to be shown."""
    console = Console(stderr=True)
    return track(
        items,
        description=description,
        total=total,
        console=console,
        transient=True,
        disable=not shown or not console.is_terminal,
    )


def mapped(function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int) -> Iterable[_Result]:
    """As `map`, by several threads if there are several workers; results come in the order of the items."""
    if workers <= 1:
        return map(function, items)
    return _threaded(function, items, workers)


def _threaded(function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int) -> Iterable[_Result]:
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(function, items)
