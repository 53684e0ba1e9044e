"""The yolo_seg family reads Ultralytics' exports as Ultralytics itself does: recorded tensors, recorded results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.models.families.yolo_seg import YoloSeg
from maskmill.worker.models.family import Port, Signature

EXPORTS = ("yolo11n-seg.shapes.static", "yolo11n-seg.shapes.dynamic", "yolo11n-seg.shapes.nms")
PICTURES = ("sample_640x480", "sample_1280x720")
RECORDED = [
    *((export, name) for export in EXPORTS for name in PICTURES),
    ("yolo26n-seg.biased.e2e", "sample_640x480"),
]
RAW = (
    *("yolo11n-seg.static", "yolo11n-seg.dynamic", "yolo11n-seg.batch4", "yolo11n-seg.half", "yolo11n-seg.opset12"),
    *("yolov8n-seg.static", "yolov8n-seg.dynamic", "yolo26n-seg.static", "yolo26n-seg.dynamic"),
)
THRESHOLDS = np.full(80, 0.25, np.float32)
FINAL = ("yolo11n-seg.nms", "yolo11n-seg.nms_dynamic", "yolo26n-seg.e2e", "yolo26n-seg.e2e_dynamic")


def signature(test_data: Path, export: str) -> Signature:
    """The recorded inputs, outputs and metadata of an export."""
    entries = json.loads((test_data / "yolo/signatures.json").read_text(encoding="utf-8"))
    entry = next(entry for entry in entries if entry["file"] == f"{export}.onnx")
    return Signature(
        path=Path(entry["file"]),
        inputs=tuple(map(port, entry["inputs"])),
        outputs=tuple(map(port, entry["outputs"])),
        metadata=entry["metadata"],
    )


def port(recorded: dict[str, Any]) -> Port:
    return Port(recorded["name"], {"FLOAT": "float32"}[recorded["dtype"]], tuple(recorded["shape"]))


def family(test_data: Path, export: str) -> YoloSeg:
    told = signature(test_data, export)
    manifest = YoloSeg.describe(told)
    assert manifest is not None
    return YoloSeg(manifest, told)


def picture(test_data: Path, name: str) -> Image:
    return np.asarray(cv2.imread(str(test_data / f"yolo/{name}.jpg"), cv2.IMREAD_COLOR_RGB), np.uint8)


def finished(test_data: Path, export: str, name: str) -> tuple[Image, Instances]:
    image, yolo = picture(test_data, name), family(test_data, export)
    recorded = np.load(test_data / f"yolo/{export}__{name}__c0.25_plain.npz")
    outputs = {"output0": recorded["raw0"], "output1": recorded["raw1"]}
    return image, yolo.finish(outputs, yolo.prepare(image).fit, THRESHOLDS, 0.7)


@pytest.mark.parametrize(("export", "name"), RECORDED)
def test_the_network_sees_the_tensor_that_ultralytics_gives_it(test_data: Path, export: str, name: str) -> None:
    recorded = np.load(test_data / f"yolo/{export}__{name}__c0.25_plain.npz")
    tensors = family(test_data, export).prepare(picture(test_data, name)).tensors
    assert np.array_equal(tensors["images"], recorded["input"])


@pytest.mark.parametrize(("export", "name"), RECORDED)
def test_boxes_scores_and_classes_are_those_of_ultralytics(test_data: Path, export: str, name: str) -> None:
    _, instances = finished(test_data, export, name)
    expected = np.load(test_data / f"yolo/{export}__{name}__c0.25_retina.npz")
    assert len(instances) == len(expected["conf"])
    assert np.abs(instances.boxes - expected["xyxy"]).max() < 0.5
    assert np.abs(instances.scores - expected["conf"]).max() < 1e-3
    assert instances.class_ids.tolist() == expected["cls"].tolist()


@pytest.mark.parametrize(("export", "name"), RECORDED)
def test_masks_are_those_of_ultralytics_at_the_pictures_size(test_data: Path, export: str, name: str) -> None:
    image, instances = finished(test_data, export, name)
    expected = np.load(test_data / f"yolo/{export}__{name}__c0.25_retina.npz")["masks"]
    for mask, whole in zip(instances.masks, expected, strict=True):
        x, y, width, height = mask.window
        ours = np.zeros(image.shape[:2], np.uint8)
        ours[y : y + height, x : x + width] = mask.bitmap()
        assert (ours == whole).mean() >= 0.999
        # Where the padding is a whole number of prototypes there is one way to interpolate, and nothing may differ.
        if name == "sample_640x480":
            assert np.array_equal(ours, whole)


@pytest.mark.parametrize("export", RAW + FINAL)
def test_an_export_is_read_from_its_metadata_alone(test_data: Path, export: str) -> None:
    told = signature(test_data, export)
    manifest = YoloSeg.describe(told)
    assert manifest is not None
    assert len(manifest.labels) == 80
    assert manifest.input_size == (640, 640)
    assert YoloSeg(manifest, told).batch == (4 if "batch4" in export else None if "dynamic" in export else 1)


@pytest.mark.parametrize("export", RAW + FINAL)
def test_a_dynamic_export_gets_the_smallest_rectangle_and_a_static_one_its_square(test_data: Path, export: str) -> None:
    tensors = family(test_data, export).prepare(picture(test_data, "sample_640x480")).tensors
    assert tensors["images"].shape == ((1, 3, 480, 640) if "dynamic" in export else (1, 3, 640, 640))


def ambiguous(test_data: Path, export: str) -> Signature:
    """The export's metadata over a head whose 300 rows fit 264 labels and whose 38 columns fit a final head."""
    told = signature(test_data, export)
    names = {"names": str({index: str(index) for index in range(264)})}
    head = Port("output0", "float32", (1, 300, 38))
    return replace(told, outputs=(head, told.outputs[1]), metadata={**told.metadata, **names})


@pytest.mark.parametrize(
    ("export", "found"), [("yolo11n-seg.static", 1), ("yolo11n-seg.nms", 2), ("yolo26n-seg.e2e", 2)]
)
def test_where_the_shape_could_be_both_layouts_the_metadata_decides(test_data: Path, export: str, found: int) -> None:
    told = ambiguous(test_data, export)
    manifest = YoloSeg.describe(told)
    assert manifest is not None
    yolo = YoloSeg(manifest, told)
    head = np.zeros((1, 300, 38), np.float32)
    # As rows: two equal boxes, none of which suppresses the other. As columns: one box of 50 x 50 with one score.
    head[0, :2] = [100, 100, 200, 200, 0.9, 1, *[1] * 32]
    head[0, 2:4, 0], head[0, 4, 0], head[0, 268:, 0] = 50, 0.9, 1
    outputs = {"output0": head, "output1": np.ones((1, 32, 160, 160), np.float32)}
    fit = yolo.prepare(picture(test_data, "sample_640x480")).fit
    assert len(yolo.finish(outputs, fit, THRESHOLDS, 0.7)) == found


def test_a_class_that_no_label_names_is_refused_by_its_tensor(test_data: Path) -> None:
    yolo = family(test_data, "yolo11n-seg.nms")
    head = np.zeros((1, 300, 38), np.float32)
    head[0, 0] = [10, 10, 90, 90, 0.9, 80, *[1] * 32]
    outputs = {"output0": head, "output1": np.ones((1, 32, 160, 160), np.float32)}
    fit = yolo.prepare(picture(test_data, "sample_640x480")).fit
    with pytest.raises(ModelInvalid, match=r"output0: expected classes 0 to 79, .* got 80"):
        yolo.finish(outputs, fit, THRESHOLDS, 0.7)
