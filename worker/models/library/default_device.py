"""Probe: which device to use where none is named, tried in a process of its own, since a CUDA context would stay."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata

from maskmill.shared.errors import MaskmillError
from maskmill.shared.settings import Settings

FIRST_CHOICE = "gpu:0"


def default_device(settings: Settings) -> tuple[str, str]:
    """gpu:0 where it runs the first model, else cpu; and why it is the CPU (empty where there is no choice)."""
    if not _built_for_gpu():
        return "cpu", ""
    trial = subprocess.run(
        [sys.executable, "-P", "-m", "maskmill.worker.models.library.default_device"],
        env={**os.environ, **settings.to_env()},
        capture_output=True,
        text=True,
        check=False,
    )
    if trial.returncode == 0:
        return FIRST_CHOICE, ""
    said = trial.stderr.strip().splitlines() or [f"the trial of {FIRST_CHOICE} ended with {trial.returncode}"]
    return "cpu", said[-1]


def _built_for_gpu() -> bool:
    try:
        metadata.distribution("onnxruntime-gpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def main() -> None:
    """Load the first model on the first choice."""
    from maskmill.worker.device import parse_devices
    from maskmill.worker.models import load

    settings = Settings.from_env(os.environ)
    try:
        load(settings.models[0], parse_devices(FIRST_CHOICE)[0], settings)
    except MaskmillError as error:
        sys.exit(error.reason)


if __name__ == "__main__":
    main()
