"""Device: where a model runs, as users write it, and what that asks of the process it runs in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal

from maskmill.shared.errors import InvalidRequest
from maskmill.shared.settings import Settings

Kind = Literal["cpu", "gpu", "npu", "xpu", "mlu", "dcu", "gcu", "sim"]

FORMS = 'use "cpu", "gpu:0", "gpu:0,1", "npu:0", "xpu:0", "mlu:0", "dcu:0", "gcu:0" or "sim:MILLISECONDS"'

_ONE = re.compile(r"(?P<kind>cpu|gpu|npu|xpu|mlu|dcu|gcu|sim)(:(?P<index>[0-9]{1,6}))?")

_VISIBLE = {"gpu": "CUDA_VISIBLE_DEVICES", "npu": "ASCEND_RT_VISIBLE_DEVICES", "dcu": "HIP_VISIBLE_DEVICES"}

# A numerical library's idle threads spin on the cores that onnxruntime computes on; nothing here needs more than one.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Device:
    """`kind` and its number; for `sim` the number is the milliseconds that one picture takes.

    `shown` is what it is called where that is not its number here.
    """

    kind: Kind
    index: int = 0
    shown: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.shown or (self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}")

    def environment(self) -> dict[str, str]:
        """What to set for a process that is to use this device, before it starts: there the device is number 0."""
        environment = dict.fromkeys(_ONE_THREAD, "1")
        if self.kind in _VISIBLE:
            environment[_VISIBLE[self.kind]] = self._as_the_driver_counts(os.environ.get(_VISIBLE[self.kind]))
        return environment

    def _as_the_driver_counts(self, visible: str | None) -> str:
        """This device's name where this process sees only those that are `visible`; "-1" is none."""
        if visible is None:
            return str(self.index)
        return dict(enumerate(visible.split(","))).get(self.index, "-1")

    def alone(self) -> Device:
        """This device as a process sees it that was started with `environment()`; it is called what it was."""
        return Device(self.kind, shown=str(self)) if self.kind in _VISIBLE else self


def parse_devices(text: str) -> tuple[Device, ...]:
    """The devices that `text` lists; a bare number repeats the kind before it ("gpu:0,1"). Raises InvalidRequest.

    A device that is listed twice is one. But each "cpu" and "sim" is one more: there the number of processes is
    a choice, not a number of cards.
    """
    devices: list[Device] = []
    for part in (part.strip().lower() for part in text.split(",")):
        bare = part.isdecimal() and devices and devices[-1].kind != "cpu"
        device = _parse(f"{devices[-1].kind}:{part}" if bare else part, text)
        if device not in devices or device.kind in ("cpu", "sim"):
            devices.append(device)
    return tuple(devices)


def opencv_environment(settings: Settings) -> dict[str, str]:
    """Variables that OpenCV reads when it is loaded: its own pixel limit, a second wall behind ours."""
    return {"OPENCV_IO_MAX_IMAGE_PIXELS": str(settings.max_pixels)}


def limit_threads() -> None:
    """Let OpenCV compute in the calling thread; the pipeline's own threads are the parallelism."""
    # Whoever only starts such processes needs no OpenCV.
    import cv2

    cv2.setNumThreads(1)


def _parse(part: str, text: str) -> Device:
    match = _ONE.fullmatch(part)
    if match is None:
        raise InvalidRequest(f"devices {text!r}: {part!r} is not a device; {FORMS}")
    kind, index = match["kind"], match["index"]
    if kind == "cpu" and index is not None:
        raise InvalidRequest(f"devices {text!r}: cpu takes no number; {FORMS}")
    if kind == "sim" and index is None:
        raise InvalidRequest(f"devices {text!r}: sim needs the milliseconds a picture takes; {FORMS}")
    return Device(kind, int(index or 0))  # type: ignore[arg-type]
