"""The paddlex family prepares and reads as PaddleX 3.7.2 does: recorded tensors, recorded outputs, recorded results."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from shared.settings import Settings
from tests.paddlex_models import write_answering
from worker.device import Device
from worker.instances import Image, Instances
from worker.masks import Window
from worker.models import Model, load

BOXED = ("Mask-RT-DETR-S", "PP-YOLOE_seg-S", "MaskRCNN-ResNet50-FPN", "Cascade-MaskRCNN-ResNet50-FPN")
NAMES = (*BOXED, "SOLOv2")
HEIGHT, WIDTH = 480, 640


class Allowed(NamedTuple):
    """How far an instance may lie from PaddleX's."""

    box: float
    score: float
    overlap: float


CLOSE = Allowed(box=0.5, score=1e-3, overlap=0.99)

# PaddleX's results were recorded with Paddle's own runtime, the outputs with onnxruntime on the same tensors. For
# these, by their place in the record, the two runtimes differ by more: a box lies up to 0.93 pixels elsewhere, so that
# its rounded crop is a column or a row larger or smaller; and of a mask of 421 pixels 6 differ.
RUNTIME = {
    ("Mask-RT-DETR-S", 2): Allowed(box=0.93, score=1e-3, overlap=0.99),
    ("Mask-RT-DETR-S", 4): Allowed(box=0.5, score=1e-3, overlap=0.97),
    ("Mask-RT-DETR-S", 5): Allowed(box=0.5, score=2.4e-3, overlap=0.98),
    ("MaskRCNN-ResNet50-FPN", 3): Allowed(box=0.5, score=1e-3, overlap=0.98),
}

# Of pycocotools' own reading of its masks; only these tests decode.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@dataclass
class Recorded:
    """A model whose graph answers what PaddleX's graph answered, and what PaddleX fed it and made of it."""

    model: Model
    image: Image
    tensors: dict[str, NDArray[np.float32]]
    outputs: list[NDArray[Any]]
    expected: list[dict[str, Any]]

    def finished(self) -> Instances:
        prepared = self.model.prepare(self.image)
        [outputs] = self.model.infer([prepared])
        return self.model.finish(outputs, prepared, 0.5)


@pytest.fixture(scope="module", params=NAMES)
def recorded(request: pytest.FixtureRequest, test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    name, data = request.param, test_data / "paddlex"
    golden = np.load(data / f"golden/{name}.npz")
    answers = outputs(golden)
    folder = write_answering(tmp_path_factory.mktemp("models") / name, answers)
    shutil.copy(data / f"yml/{name}.inference.yml", folder / "inference.yml")
    return Recorded(
        load(str(folder), Device("cpu"), Settings(models_dir=folder.parent, cpu_threads=1)),
        np.asarray(cv2.imread(str(data / "sample_640x480.jpg"), cv2.IMREAD_COLOR_RGB), np.uint8),
        {key.removeprefix("in_"): golden[key] for key in golden.files if key.startswith("in_")},
        answers,
        json.loads((data / f"golden/{name}.expected_th0.5.json").read_text(encoding="utf-8")),
    )


def outputs(golden: Any) -> list[NDArray[Any]]:
    """The raw outputs in order; masks are kept as bits."""
    values: list[NDArray[Any]] = []
    while (key := f"out{len(values)}") in golden or f"{key}_packed" in golden:
        if key in golden:
            values.append(golden[key])
            continue
        shape = golden[f"{key}_shape"]
        bits = np.unpackbits(golden[f"{key}_packed"])[: np.prod(shape)]
        values.append(bits.reshape(shape).astype(str(golden[f"{key}_dtype"])))
    return values


def mask_of(entry: dict[str, Any]) -> NDArray[np.bool_]:
    """PaddleX's mask of an instance, in the whole picture."""
    whole = np.zeros((HEIGHT, WIDTH), bool)
    rle: Any = {"size": entry["mask"]["size"], "counts": entry["mask"]["rleResult"]}
    x, y, width, height = Window.rounded(entry.get("bbox", (0, 0, WIDTH, HEIGHT)), HEIGHT, WIDTH)
    whole[y : y + height, x : x + width] = np.asarray(coco.decode(rle))
    return whole


def overlap(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Intersection over union."""
    return float((ours & theirs).sum() / max((ours | theirs).sum(), 1))


def whole_masks(instances: Instances) -> list[NDArray[np.bool_]]:
    return [mask.crop(Window(0, 0, WIDTH, HEIGHT)).astype(bool) for mask in instances.masks]


def test_the_graph_sees_the_tensors_that_paddlex_gives_it(recorded: Recorded) -> None:
    tensors = recorded.model.prepare(recorded.image).tensors
    assert tensors.keys() == recorded.tensors.keys()
    for name, expected in recorded.tensors.items():
        assert tensors[name].dtype == expected.dtype
        assert tensors[name].shape == expected.shape
        assert np.abs(tensors[name] - expected).max() <= 1e-6


def rule(outputs: list[NDArray[Any]]) -> list[tuple[int, float, list[float], NDArray[np.bool_]]]:
    """PaddleX's reading of raw outputs, written out plainly: class, score, box and mask in the whole picture.

    One thing is not as there: SOLOv2's threshold is strict here too. A box that is empty after clipping, whose mask
    PaddleX leaves behind so that the next ones get their predecessor's, does not occur in what was recorded.
    """
    found = []
    if len(outputs) == 4:
        _, labels, scores, masks = outputs
        for label, score, mask in zip(labels, scores, masks, strict=True):
            if score > 0.5:
                rows, columns = np.nonzero(mask)
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                found.append((int(label), float(score), list(map(float, box)), mask > 0))
        return found
    for (label, score, *corners), mask in zip(outputs[0].tolist(), outputs[2], strict=True):
        if score > 0.5 and label > -1:
            box = [min(max(corner, 0), side) for corner, side in zip(corners, (WIDTH, HEIGHT) * 2, strict=True)]
            x1, y1, x2, y2 = map(round, box)
            whole = np.zeros((HEIGHT, WIDTH), bool)
            whole[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
            found.append((int(label), score, box, whole))
    return found


def test_finish_reads_the_recorded_outputs_to_the_last_bit_as_paddlexs_rule_does(recorded: Recorded) -> None:
    instances = recorded.finished()
    expected = sorted(rule(recorded.outputs), key=lambda one: -one[1])
    assert [(one[0], one[1]) for one in expected] == list(
        zip(instances.class_ids.tolist(), instances.scores.tolist(), strict=True)
    )
    assert instances.boxes.tolist() == [one[2] for one in expected]
    assert all(np.array_equal(mask, one[3]) for mask, one in zip(whole_masks(instances), expected, strict=True))


def test_what_the_graph_answers_becomes_paddlexs_instances(recorded: Recorded) -> None:
    instances = recorded.finished()
    masks = whole_masks(instances)
    assert len(instances) == len(recorded.expected)
    matched = set()
    for index, entry in enumerate(recorded.expected):
        theirs = mask_of(entry)
        allowed = RUNTIME.get((recorded.model.name, index), CLOSE)
        ours = max(range(len(masks)), key=lambda one: nearness(instances, one, masks[one], entry, theirs))
        matched.add(ours)
        assert overlap(masks[ours], theirs) >= allowed.overlap
        if "bbox" in entry:
            assert instances.class_ids[ours] == entry["categoryId"]
            assert abs(instances.scores[ours] - entry["score"]) <= allowed.score
            assert np.abs(instances.boxes[ours] - entry["bbox"]).max() <= allowed.box
    assert len(matched) == len(instances)


def nearness(
    instances: Instances, index: int, mask: NDArray[np.bool_], entry: dict[str, Any], theirs: NDArray[np.bool_]
) -> float:
    """Greatest for the instance that is PaddleX's `entry`: by class and box, or by the mask where it has no box."""
    if "bbox" not in entry:
        return overlap(mask, theirs)
    other = instances.class_ids[index] != entry["categoryId"]
    return -float(np.abs(instances.boxes[index] - entry["bbox"]).max()) - 1e9 * other
