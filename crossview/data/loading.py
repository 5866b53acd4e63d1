"""Views as their files say, from the cache or parsed anew: what all readers share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossview.data.cache import AnnotationCache, merged
from crossview.data.errors import DataError
from crossview.data.parsing import file_stamp, parse_views
from crossview.data.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossview.data.errors import Report
    from crossview.data.parsing import Read
    from crossview.data.table import FileKey, FileStamp
    from crossview.data.voc_xml import Fault


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads the files of views.

    Attributes:
        cache: Where parsed views are kept, if they are.
        workers: Threads that read files.
        progress: Whether to show a progress bar on a terminal.
    """

    cache: AnnotationCache | None
    workers: int
    progress: bool

    def load(self, keys: Sequence[FileKey], read: Read, report: Report) -> tuple[Table, dict[int, Fault]]:
        """The views from the cache, or parsed where they are not in it or have changed.

        Args:
            keys: The files of each view.
            read: Reads the annotation of a view.
            report: Takes files that cannot be read, and remarks.

        Returns:
            The views that could be read, in another order, and what is wrong with single objects by their number.
        """
        read_from = time.time_ns()
        cached = self.cache.load(report.notices) if self.cache else Table.empty()
        rows = {key: row for row, key in enumerate(cached.keys)}
        old_stamps = cached.views["stamp"].tolist()
        known: list[int] = []
        changed: list[FileKey] = []
        stamps: list[FileStamp] = []
        for key in keys:
            try:
                stamp = file_stamp(key)
            except DataError as error:
                report.problems.add("a file that cannot be read", str(error))
                continue
            row = rows.get(key)
            if row is not None and list(stamp) == old_stamps[row]:
                known.append(row)
            else:
                changed.append(key)
                stamps.append(stamp)
        hits = cached.take(known)
        if not changed:
            return hits, {}
        parsed = parse_views(changed, stamps, read, report, workers=self.workers, progress=self.progress)
        if self.cache and parsed.sound:
            self.cache.save(merged(cached, parsed.table.take(parsed.sound)), read_from, report.notices)
        return hits.join(parsed.table), {len(hits.objects) + item: fault for item, fault in parsed.faults.items()}
