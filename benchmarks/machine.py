"""What a figure was measured on, and how figures are summed up."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("onnxruntime", "opencv-python-headless", "numpy", "celery", "redis")


def machine() -> str:
    """CPU, cores, versions and date, on one line."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    cores = len(os.sched_getaffinity(0))
    python = f"Python {platform.python_version()}"
    return f"{models[0] if models else platform.machine()}, {cores} cores, {python}, {versions}, {today()}"


def today() -> str:
    """The date in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def busy(shares: Sequence[float]) -> str:
    """How much of the machine others took while it was measured."""
    return f"others took {min(shares) * 100:.0f}-{max(shares) * 100:.0f} % of the machine"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, and from the least to the most."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
