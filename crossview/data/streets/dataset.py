"""Renders a whole data set with several processes, and leaves either all of it or nothing."""

import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crossview.data.streets.annotate import annotate_view
from crossview.data.streets.render import render_view
from crossview.data.streets.settings import StreetSettings
from crossview.data.streets.world import build_street
from crossview.data.streets.writer import make_folders, write_pairs, write_view, written_pose


def render_dataset(out: Path, settings: StreetSettings, workers: int | None = None) -> Path:
    """Renders the data set into a new folder.

    Args:
        out: The folder to make; it must not exist, or be empty.
        settings: What to render.
        workers: Number of processes; None: one for each core. The data do not depend on it.

    Returns:
        The folder.

    Raises:
        FileExistsError: ``out`` holds something already.
        ValueError: ``workers`` is not positive.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} is not a number of processes; use 1 or more, or null for one a core")
    out = Path(out).expanduser().absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty folder; choose another out=DIR, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder(out) as folder:
        make_folders(folder)
        _render_streets(folder, settings, min(workers or os.cpu_count() or 1, settings.streets))
        write_pairs(settings, folder)
        if out.exists():
            out.rmdir()
        folder.rename(out)
    return out


@contextmanager
def _temporary_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that is removed, whatever happens, unless it was renamed."""
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    folder.chmod(0o755)  # mkdtemp makes it private; a data set is as public as any other folder
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def render_street(folder: Path, settings: StreetSettings, street: int) -> int:
    """Renders one street into the folders of a data set; returns its number of views."""
    world = build_street(settings, street)
    for number in range(settings.panoramas_per_street):
        canvas = render_view(settings, world, number)
        pose = written_pose(settings, street, number, world.cameras[number])
        write_view(
            settings, folder, street, number, canvas, pose, world.trees, annotate_view(settings, canvas, world.trees)
        )
    return settings.panoramas_per_street


def _render_streets(folder: Path, settings: StreetSettings, workers: int) -> None:
    """Renders all streets, with a progress bar on standard error."""
    total = settings.streets * settings.panoramas_per_street
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("panoramas"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        task = progress.add_task("Rendering streets", total=total)
        if workers == 1:
            threads = cv2.getNumThreads()
            _use_one_thread()
            try:
                for street in range(settings.streets):
                    progress.advance(task, render_street(folder, settings, street))
            finally:
                cv2.setNumThreads(threads)
            return
        # Spawned, not forked: a fork of a process with threads (torch, OpenCV) may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_use_one_thread) as pool:
            try:
                pending = {pool.submit(render_street, folder, settings, street) for street in range(settings.streets)}
                while pending:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        progress.advance(task, _result(future))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _result(future: "Future[int]") -> int:
    return future.result()


def _use_one_thread() -> None:
    """One thread a process: the processes share the cores already, and results never depend on their number."""
    cv2.setNumThreads(1)
