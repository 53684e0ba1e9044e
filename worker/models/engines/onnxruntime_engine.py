"""Session: one ONNX file on one device, checked to really run there. The only file that knows onnxruntime."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from maskmill.shared.errors import DeviceUnavailable, ModelError, ModelInvalid
from maskmill.worker.device import Device
from maskmill.worker.models.family import Port, Signature, Tensors

_CUDA = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}

# Provider, its options, and the package whose build has it.
_PROVIDERS: dict[str, tuple[tuple[str, dict[str, str], str], ...]] = {
    "gpu": (("CUDAExecutionProvider", _CUDA, "onnxruntime-gpu[cuda,cudnn]"),),
    "npu": (("CANNExecutionProvider", {}, "onnxruntime-cann"),),
    "dcu": (
        ("MIGraphXExecutionProvider", {}, "onnxruntime-migraphx"),
        ("ROCMExecutionProvider", {}, "onnxruntime-rocm"),
    ),
}

_ERRORS = tuple(kind for kind in vars(ort_errors).values() if isinstance(kind, type) and issubclass(kind, Exception))

# What a device that is not there raises too, beside a graph that nothing can run.
_DEVICE_ERRORS = (ort_errors.Fail, ort_errors.EPFail, ort_errors.RuntimeException)


MOST_SAID = 400


class Session:
    """The file run by onnxruntime on `device`, with `threads` of its own where that is the CPU.

    With `plan_memory` it lays out what a run needs by the inputs' shapes. Where an input's values decide how large
    things become, that plan is wrong, and its block is held beside those that are needed.
    """

    def __init__(self, weights: Path, device: Device, threads: int, *, plan_memory: bool = True) -> None:
        """Raises ModelInvalid for a file that is no runnable ONNX, DeviceUnavailable where the device cannot run it."""
        missing = _preload(device)
        self._session = _start(weights, device, threads, plan_memory)
        _check_provider(self._session, device, missing)
        self.provider = self._session.get_providers()[0]
        self.signature = Signature(
            path=weights,
            inputs=tuple(map(_port, self._session.get_inputs())),
            outputs=tuple(map(_port, self._session.get_outputs())),
            metadata=dict(self._session.get_modelmeta().custom_metadata_map),
        )

    def run(self, tensors: Tensors) -> list[NDArray[Any]]:
        """The outputs, in the signature's order; raises ModelError where onnxruntime does."""
        try:
            return [np.asarray(output) for output in self._session.run(None, dict(tensors))]
        except _ERRORS as error:
            raise ModelError(f"the model did not run: {_in_one_line(error)}") from None


def _start(weights: Path, device: Device, threads: int, plan_memory: bool) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = plan_memory
    # Spinning threads win nothing here and take the cores from decoding and drawing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(device)
    try:
        session = ort.InferenceSession(weights, sess_options=options, providers=providers)
    except ort_errors.InvalidProtobuf:
        raise ModelInvalid("no ONNX file, or one that was cut off; export or download it again") from None
    except _DEVICE_ERRORS as error:
        kind = ModelInvalid if device.kind == "cpu" else DeviceUnavailable
        raise kind(f"onnxruntime cannot load it on {device}: {_in_one_line(error)}") from None
    except _ERRORS as error:
        raise ModelInvalid(f"onnxruntime cannot load it: {_in_one_line(error)}") from None
    session.disable_fallback()
    return session


def _providers(device: Device) -> list[Any]:
    if device.kind == "cpu":
        return ["CPUExecutionProvider"]
    built = ort.get_available_providers()
    known = _PROVIDERS.get(device.kind, ())
    for provider, options, _ in known:
        if provider in built:
            return [(provider, {"device_id": str(device.index), **options}), "CPUExecutionProvider"]
    packages = " or ".join(package for _, _, package in known)
    why = (
        f"this onnxruntime has no {known[0][0]}; install {packages}"
        if known
        else f"no build of onnxruntime for {device.kind} is known"
    )
    raise DeviceUnavailable(f"{device}: {why}. Available here: {', '.join(available())}")


def available() -> list[str]:
    """The kinds of device that the installed onnxruntime was built for."""
    built = ort.get_available_providers()
    return ["cpu", *(kind for kind, known in _PROVIDERS.items() if any(name in built for name, _, _ in known))]


def _preload(device: Device) -> str:
    """Load CUDA's libraries from their Python packages where the device needs them; says which are missing."""
    if device.kind != "gpu" or "gpu" not in available():
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ort.preload_dlls()
    return "; ".join(line.split(":")[0] for line in said.getvalue().splitlines() if line.startswith("Failed to load"))


def _check_provider(session: Any, device: Device, missing: str) -> None:
    """onnxruntime falls back to the CPU with a log line only; here that is an error."""
    if device.kind == "cpu":
        return
    running = session.get_providers()[0]
    wanted = [name for name, _, _ in _PROVIDERS[device.kind]]
    if running not in wanted:
        raise DeviceUnavailable(
            f"{device}: {wanted[0]} did not start, onnxruntime fell back to {running}. "
            f"{missing or 'The device or its driver is missing'}. Device cpu runs here"
        )
    given = session.get_provider_options()[running].get("device_id", str(device.index))
    if given != str(device.index):
        raise DeviceUnavailable(f"{device}: {running} started on device {given} instead")


def _port(argument: Any) -> Port:
    dtype = argument.type.removeprefix("tensor(").removesuffix(")")
    names = {"float": "float32", "double": "float64"}
    shape = tuple(size if isinstance(size, int) else str(size or "?") for size in argument.shape)
    return Port(argument.name, names.get(dtype, dtype), shape)


def _in_one_line(error: Exception) -> str:
    """What onnxruntime says: its code comes first, the reason last, and between them may stand lines of its source."""
    said = " ".join(str(error).split())
    return said if len(said) <= MOST_SAID else f"{said[: MOST_SAID // 4]} ... {said[-MOST_SAID * 3 // 4 :]}"
