"""Renders a whole data set with several processes, and leaves either all of it or nothing."""

import multiprocessing
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crossview.cores import usable_cores
from crossview.data.streets.annotate import annotate_view
from crossview.data.streets.render import render_view
from crossview.data.streets.settings import StreetSettings
from crossview.data.streets.world import build_street
from crossview.data.streets.writer import ViewFiles, make_folders, write_pairs, write_view, written_pose


def render_dataset(out: Path, settings: StreetSettings, workers: int | None = None) -> Path:
    """Renders the data set into a new folder.

    Args:
        out: The folder to make; it must not exist, or be empty.
        settings: What to render.
        workers: Number of processes; None: one for each core. The data do not depend on it.

    Returns:
        The folder.

    Raises:
        FileExistsError: ``out`` holds something already, or cannot be replaced by what is rendered.
        ValueError: ``workers`` is not positive.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} is not a number of processes; use 1 or more, or null for one a core")
    out = Path(out).expanduser().resolve()
    if out.is_mount():
        raise FileExistsError(f"{out} is where a drive is mounted; choose a folder below it, out={out / 'streets'}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty folder; choose another out=DIR, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder(out) as folder:
        make_folders(folder)
        _render_streets(folder, settings, min(workers or usable_cores(), settings.streets))
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
        if _stop is not None and _stop.is_set():
            break
        canvas = render_view(settings, world, number)
        pose = written_pose(settings, street, number, world.cameras[number])
        annotations = annotate_view(settings, canvas, world.trees)
        write_view(settings, folder, ViewFiles(street, number, canvas.image, pose, world.trees, annotations))
    return settings.panoramas_per_street


def _render_streets(folder: Path, settings: StreetSettings, workers: int) -> None:
    """Renders all streets, with a progress bar on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("panoramas"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        task = progress.add_task("Rendering streets", total=settings.streets * settings.panoramas_per_street)
        render = _render_here if workers == 1 else _render_in_pool
        for views in render(folder, settings, workers):
            progress.advance(task, views)


def _render_here(folder: Path, settings: StreetSettings, workers: int) -> Iterator[int]:
    """Renders in this process; yields the number of views of every finished street."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for street in range(settings.streets):
            yield render_street(folder, settings, street)
    finally:
        cv2.setNumThreads(threads)


def _render_in_pool(folder: Path, settings: StreetSettings, workers: int) -> Iterator[int]:
    """Renders in several processes; yields the number of views of every finished street."""
    # Spawned, not forked: a fork of a process with threads (torch, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(stop,)) as pool:
        try:
            futures = [pool.submit(render_street, folder, settings, street) for street in range(settings.streets)]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


_stop: Event | None = None  # set in workers: tells them to leave the rest of their street


def _start_worker(stop: Event) -> None:
    """Prepares a worker: one thread, as the processes share the cores; Ctrl-C is the parent's to handle."""
    global _stop
    _stop = stop
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
