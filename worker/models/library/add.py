"""Add: take a PaddleX model directory into the models folder, converted to ONNX where it is in Paddle's own format."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from maskmill.shared.errors import CannotStart, Conflict, ModelInvalid
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.models import load
from maskmill.worker.models.families.paddle_config import Config
from maskmill.worker.models.package import PADDLEX_CONFIG, PADDLEX_WEIGHTS

PARAMETERS = "inference.pdiparams"
GRAPHS = ("inference.json", "inference.pdmodel")

# Cascade and Mask R-CNN: no released paddle2onnx converts their control flow.
UNCONVERTIBLE = "RCNN"

INSTALL = "pip install paddle2onnx==2.1.0 paddlepaddle==3.3.1 packaging setuptools"
OPSET = 16


def add_paddlex(source: Path, settings: Settings, name: str | None = None) -> Path:
    """Put the model of directory `source` into the models folder, as `name` or its own; returns where it lies.

    It appears there once it has run on the CPU, or not at all. Raises ModelInvalid where it is no PaddleX model, cannot
    be converted or does not run, Conflict where the name is taken, and CannotStart where the folder does not take it.
    """
    models_dir = settings.models_dir
    config = Config.beside(source / PADDLEX_WEIGHTS)
    target = models_dir / _checked(name or config.names.model_name or source.resolve().name)
    if target.exists():
        raise Conflict(f"{target} is there already; add it under another --name, or remove that one first")
    with _room(models_dir):
        models_dir.mkdir(parents=True, exist_ok=True)
        _add(source, config.arch, target, settings)
    return target


def _add(source: Path, arch: str, target: Path, settings: Settings) -> None:
    # Beside the target, so that the last step is a rename; hidden, so that nobody takes it for a model.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".adding-") as folder:
        staged = Path(folder) / target.name
        staged.mkdir()
        shutil.copyfile(source / PADDLEX_CONFIG, staged / PADDLEX_CONFIG)
        if (source / PADDLEX_WEIGHTS).is_file():
            shutil.copyfile(source / PADDLEX_WEIGHTS, staged / PADDLEX_WEIGHTS)
        else:
            _convert(source, arch, staged / PADDLEX_WEIGHTS)
        try:
            load(str(staged), Device("cpu"), settings)
        except ModelInvalid as error:
            raise ModelInvalid(error.reason.replace(str(staged), str(source))) from None
        staged.rename(target)


@contextlib.contextmanager
def _room(models_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or models_dir
        raise CannotStart(f"{place}: {error.strerror}; MASKMILL_MODELS_DIR names another place") from None


def _checked(name: str) -> str:
    if not name or name.startswith(".") or Path(name).name != name or not name.isprintable():
        raise ModelInvalid(f"name {name!r}: expected one name, as of a folder; give another with --name")
    return name


def _convert(source: Path, arch: str, weights: Path) -> None:
    """Run paddle2onnx, which has its own environment as a rule: only its command is used."""
    graph = next((graph for graph in GRAPHS if (source / graph).is_file()), None)
    if graph is None or not (source / PARAMETERS).is_file():
        raise ModelInvalid(f"{source}: expected {PADDLEX_WEIGHTS}, or {' or '.join(GRAPHS)} with {PARAMETERS}")
    if arch == UNCONVERTIBLE:
        raise ModelInvalid(
            f"{source}: no released paddle2onnx converts arch {arch} (Mask R-CNN, Cascade Mask R-CNN); "
            f"put an {PADDLEX_WEIGHTS} made by other means (PaddleDetection's export_onnx=True) beside {PADDLEX_CONFIG}"
        )
    command = shutil.which("paddle2onnx") or shutil.which("paddle2onnx", path=str(Path(sys.executable).parent))
    if command is None:
        raise ModelInvalid(f"{source}: in Paddle's own format, and no paddle2onnx on PATH to convert it; {INSTALL}")
    options = {
        "--model_dir": str(source),
        "--model_filename": graph,
        "--params_filename": PARAMETERS,
        "--save_file": str(weights),
        "--opset_version": str(OPSET),
        # Its optimiser would install packages of its own accord; onnxruntime optimises on load anyway.
        "--optimize_tool": "None",
    }
    words = [command, *(word for option in options.items() for word in option)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ModelInvalid(f"{source}: {command} does not run: {error.strerror}") from None
    if done.returncode or not weights.is_file():
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise ModelInvalid(f"{source}: {command} did not convert it: {lines[-1].strip()[:300]}")
