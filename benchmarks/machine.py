"""What the numbers of a run were measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import in_turn, one_thread
from crossview.cores import usable_cores

PACKAGES = (
    "crossview",
    "torch",
    "torchvision",
    "torchmetrics",
    "pycocotools",
    "faster-coco-eval",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "pytorch-lightning",
)
SIDE = 2048  # of the matrices whose product is timed


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gflops(side: int = SIDE, rounds: int = 5) -> float:
    """Billions of operations a second in a product of float32 matrices, with PyTorch's threads as they are: the best.

    Args:
        side: of the square matrices.
        rounds: how often the product is timed.
    """
    matrix = torch.rand(side, side)
    times = in_turn({"product": lambda: matrix @ matrix}, rounds)["product"]
    return 2 * side**3 / min(times.seconds) / 1e9


def installed(package: str) -> str | None:
    """Version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe(side: int = SIDE) -> dict[str, Any]:
    """The machine, its load, its speed and the versions, as plain values.

    Args:
        side: of the matrices whose product is timed.
    """
    with one_thread():
        single = gflops(side)
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gflops_one_thread": single,
        "gflops": gflops(side),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
    }
