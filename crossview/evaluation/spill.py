"""Lists that live in a file: a large test set has more scenes than a computer has memory."""

import copyreg
import io
import mmap
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Generic, TypeVar, overload

import torch

Item = TypeVar("Item")


def pickled(item: object) -> bytes:
    """A pickle with tensors as arrays.

    Between processes every small tensor would travel as a file descriptor, of which a process has few; PyTorch's own
    pickles take ten times as long.
    """
    file = io.BytesIO()
    pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = {**copyreg.dispatch_table, torch.Tensor: _reduce_tensor}
    pickler.dump(item)
    return file.getvalue()


def _reduce_tensor(tensor: torch.Tensor) -> tuple[Any, ...]:
    return torch.from_numpy, (tensor.numpy(),)


class Spilled(Sequence[Item], Generic[Item]):
    """A list whose items are in a temporary file; every access makes the item anew.

    The file is in the system's folder for such files (``TMPDIR``), nameless where the system allows that, and gone with
    this list. Forked processes can read it at the same time; a process that gets the list as a pickle gets a copy.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        """Starts with these items.

        Args:
            items: as for `append`.
        """
        self._file = tempfile.TemporaryFile(prefix="crossview-", buffering=0)  # noqa: SIM115  # closed with this list
        weakref.finalize(self, self._file.close)
        self._ends = array("q", [0])
        for item in items:
            self.append(item)

    def append(self, item: Item) -> None:
        """Adds an item, which can be pickled and holds tensors of the CPU without gradients."""
        self.append_pickled(pickled(item))

    def append_pickled(self, data: bytes) -> None:
        """Adds an item of which there is the result of `pickled` already.

        Raises:
            OSError: the disk is full, for example; names the folder.
        """
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{tempfile.gettempdir()} (temporary files, TMPDIR)") from error
        self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        """The number of items."""
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        """An item, or a list of some."""
        chosen = range(len(self))[index]
        if isinstance(chosen, int):
            return self._read(chosen, chosen + 1)[0]
        if chosen.step == 1:
            return self._read(chosen.start, chosen.stop)
        return [self[number] for number in chosen]

    def _read(self, first: int, last: int) -> list[Item]:
        bounds = self._ends[first : last + 1]
        if last <= first:
            return []
        start = bounds[0] // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        # A mapping, as forked processes share one position in the file.
        with mmap.mmap(self._file.fileno(), bounds[-1] - start, access=mmap.ACCESS_READ, offset=start) as data:
            return [pickle.loads(data[begin - start : end - start]) for begin, end in pairwise(bounds)]

    def __reduce__(self) -> tuple[Any, ...]:
        """As the items themselves: another process has another file."""
        return Spilled, (list(self),)
