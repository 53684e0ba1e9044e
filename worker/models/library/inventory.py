"""Inventory: which models are known here by name, and what one is once it runs on a device."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskmill.shared.errors import ModelInvalid
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.models import load
from maskmill.worker.models.family import Port
from maskmill.worker.models.model import Model
from maskmill.worker.models.package import embedded, find

RUNS = 5


@dataclass(frozen=True)
class Known:
    """A model that has a name; `family` is None where only its own metadata tells, `problem` why it is unusable."""

    name: str
    path: str
    embedded: bool
    family: str | None = None
    digest: str | None = None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def known_models(models_dir: Path) -> list[Known]:
    """The embedded models, then those of `models_dir`, by name."""
    carried = embedded()
    entries = (path.name for path in models_dir.iterdir()) if models_dir.is_dir() else ()
    there = sorted(name.removesuffix(".onnx") for name in entries if not name.startswith("."))
    return [_describe(name, models_dir, name in carried) for name in dict.fromkeys([*carried, *there])]


def check(name: str, device: Device, settings: Settings) -> dict[str, Any]:
    """What the model is, and the milliseconds of a warm run with one picture.

    Raises ModelInvalid and DeviceUnavailable where it does not run there.
    """
    model = load(name, device, settings)
    ports = model.signature
    return {
        "name": model.name,
        "family": model.family,
        "labels": len(model.labels),
        "inputs": [_tensor(port) for port in ports.inputs],
        "outputs": [_tensor(port) for port in ports.outputs],
        "threshold": model.threshold,
        "digest": model.digest,
        "device": str(device),
        "provider": model.provider,
        "warm_ms": round(_warm_milliseconds(model), 2),
    }


def _describe(name: str, models_dir: Path, carried: bool) -> Known:
    try:
        package = find(name, models_dir)
    except ModelInvalid as error:
        return Known(name, str(models_dir / name), carried, problem=error.reason)
    return Known(name, str(package.weights), carried, package.family, package.digest)


def _tensor(port: Port) -> str:
    return f"{port.name} {port.dtype}[{','.join(map(str, port.shape))}]"


def _warm_milliseconds(model: Model) -> float:
    height, width = model.input_size or (640, 640)
    prepared = [model.prepare(np.full((height, width, 3), 114, np.uint8))]
    model.infer(prepared)
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        model.infer(prepared)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
