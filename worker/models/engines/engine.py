"""Runner: what computes a model's outputs; a real session, or a device whose speed is only simulated."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maskmill.worker.device import Device
from maskmill.worker.models.engines.onnxruntime_engine import Session
from maskmill.worker.models.family import Signature, Tensors


class Runner(Protocol):
    """A loaded ONNX file; the CPU may run it for several threads at once, every other device for one."""

    signature: Signature
    provider: str

    def run(self, tensors: Tensors) -> list[NDArray[Any]]:
        """The outputs, in the signature's order."""


class Simulation:
    """A device that takes a fixed time for each picture and returns the outputs of one real run on the CPU."""

    def __init__(self, real: Session, seconds: float) -> None:
        self.signature = real.signature
        self.provider = f"simulated, {seconds * 1000:g} ms a picture"
        self._real = real
        self._seconds = seconds
        self._known: dict[tuple[Any, ...], list[NDArray[Any]]] = {}

    def run(self, tensors: Tensors) -> list[NDArray[Any]]:
        """Sleeps for as long as the device would compute; the first picture of a shape stands for all later ones."""
        # A model of one picture without a batch dimension has its input in rank 3.
        count = next((len(tensor) for tensor in tensors.values() if tensor.ndim == 4), 1)
        shape = tuple(tensor.shape[1:] for tensor in tensors.values())
        if shape not in self._known:
            self._known[shape] = self._first(tensors, count)
        time.sleep(self._seconds * count)
        outputs = self._known[shape]
        # Alone, nothing is repeated: an output may be a scalar. Else views: copies would cost time the device does not.
        return outputs if count == 1 else [np.broadcast_to(output, (count, *output.shape[1:])) for output in outputs]

    def _first(self, tensors: Tensors, count: int) -> list[NDArray[Any]]:
        """The outputs for the first picture: run alone, unless the export fixed how many run together."""
        if count == 1:
            return self._real.run(tensors)
        if any(isinstance(port.shape[0], int) for port in self.signature.inputs):
            return [output[:1] for output in self._real.run(tensors)]
        return self._real.run({name: tensor[:1] for name, tensor in tensors.items()})


def open_runner(weights: Path, device: Device, threads: int, *, plan_memory: bool = True) -> Runner:
    """The runner for a device; `sim:N` runs on the CPU once. For `plan_memory` see Session."""
    if device.kind == "sim":
        return Simulation(Session(weights, Device("cpu"), threads, plan_memory=plan_memory), device.index / 1000)
    return Session(weights, device, threads, plan_memory=plan_memory)
