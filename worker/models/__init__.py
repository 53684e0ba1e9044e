"""Models: FAMILIES by name, and `load`. A new family is its file and its line here."""

from __future__ import annotations

from maskmill.shared.errors import DeviceUnavailable, ModelError, ModelInvalid
from maskmill.shared.jobs.records import Lane
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.models.engines.engine import open_runner
from maskmill.worker.models.families.mask_rcnn import MaskRcnn
from maskmill.worker.models.families.paddlex import PaddleX
from maskmill.worker.models.families.rfdetr_seg import RfDetrSeg
from maskmill.worker.models.families.rtmdet_ins import RtmDetIns
from maskmill.worker.models.families.yolo_seg import YoloSeg
from maskmill.worker.models.family import Family, Outputs, Prepared, Signature
from maskmill.worker.models.manifest import Manifest
from maskmill.worker.models.model import Model, seed_threshold
from maskmill.worker.models.package import find

FAMILIES: dict[str, type[Family]] = {
    "yolo_seg": YoloSeg,
    "mask_rcnn": MaskRcnn,
    "rfdetr_seg": RfDetrSeg,
    "rtmdet_ins": RtmDetIns,
    "paddlex": PaddleX,
}

SIZED_BY_VALUES = {"paddlex"}
"""Families whose graphs read from an input's values how large their outputs are to be; one run at once is enough."""


def load(name: str, device: Device, settings: Settings, *, lane: Lane = "interactive") -> Model:
    """The model of that name or path, on `device`, checked there with a first run.

    On the CPU the bulk lane makes one run a thread, several at once: no thread waits for another at the end of each
    layer, so it is more pictures a second. Whoever waits for one picture is better served by all threads in one run.

    Raises ModelInvalid, naming the tensor or the file that is not as expected, and DeviceUnavailable.
    """
    package = find(name, settings.models_dir)
    sized_by_values = package.family in SIZED_BY_VALUES
    runs = settings.cpu_threads if lane == "bulk" and device.kind == "cpu" and not sized_by_values else 1
    threads = settings.cpu_threads // runs
    try:
        runner = open_runner(package.weights, device, threads, plan_memory=not sized_by_values)
        manifest = package.manifest or _describe(runner.signature)
        model = Model(package, manifest, _family(manifest, runner.signature), runner, runs)
        model.check()
    except DeviceUnavailable:
        raise
    except ModelError as error:
        raise ModelInvalid(f"model {package.name!r} ({package.weights}): {error.reason}") from None
    return model


def _describe(signature: Signature) -> Manifest:
    for family in FAMILIES.values():
        manifest = family.describe(signature)
        if manifest is not None:
            return manifest
    raise ModelInvalid(
        f"no family knows it by its metadata; write a model.yaml with labels, and family: {' or '.join(FAMILIES)}"
    )


def _family(manifest: Manifest, signature: Signature) -> Family:
    if manifest.family not in FAMILIES:
        raise ModelInvalid(f"family: expected one of {', '.join(FAMILIES)}, got {manifest.family!r}")
    return FAMILIES[manifest.family](manifest, signature)


__all__ = ["FAMILIES", "Model", "Outputs", "Prepared", "load", "seed_threshold"]
