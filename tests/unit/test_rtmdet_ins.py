"""The rtmdet_ins family finds what detections, labels and masks say, by numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.models import Model, load
from tests.onnx_models import Size, write_answers

SIZE = 64
LABELS = ["cat", "dog"]
Row = tuple[tuple[float, float, float, float], int, float]


def answers(*rows: Row) -> dict[str, NDArray[Any]]:
    """These (box in input pixels, class, score), each with a mask of 0.9 in columns 16 to 47 and rows 10 to 24."""
    masks = np.full((1, len(rows), SIZE, SIZE), 0.1, np.float32)
    masks[:, :, 10:25, 16:48] = 0.9
    return {
        "dets": np.array([[[*box, score] for box, _, score in rows]], np.float32),
        "labels": np.array([[class_id for _, class_id, _ in rows]], np.int64),
        "masks": masks,
    }


FOUND = answers(((16, 8, 48, 24), 1, 0.8), ((0, 0, 64, 64), 0, 0.9), ((0, 0, 0, 0), -1, 0.0))


def model(
    folder: Path,
    given: dict[str, NDArray[Any]],
    picture: tuple[Size, ...] = (1, 3, SIZE, SIZE),
    **manifest: object,
) -> Model:
    write_answers(folder / "mine", picture, given, **{"family": "rtmdet_ins", "labels": LABELS} | manifest)
    return load("mine", Device("cpu"), Settings(models_dir=folder, cpu_threads=1))


def run(loaded: Model, image: Image, threshold: float = 0.5) -> Instances:
    prepared = loaded.prepare(image)
    return loaded.finish(loaded.infer([prepared])[0], prepared, threshold)


def grey(height: int, width: int) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def test_the_picture_lies_at_the_top_left_in_bgr_over_114(tmp_path: Path) -> None:
    image = np.zeros((50, 100, 3), np.uint8)
    image[:] = 10, 20, 30
    tensor = model(tmp_path, FOUND).prepare(image).tensors["input"]
    assert tensor.shape == (1, 3, SIZE, SIZE)
    mean, std = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    pixels = tensor[0].transpose(1, 2, 0)
    assert np.allclose(pixels[:32], (np.array([30, 20, 10]) - mean) / std, atol=1e-5)
    assert np.allclose(pixels[32:], (114 - mean) / std, atol=1e-5)


def test_boxes_scores_and_masks_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    found = run(model(tmp_path, FOUND), grey(50, 100))
    assert np.allclose(found.scores, [0.9, 0.8])
    assert found.class_ids.tolist() == [0, 1]
    # One input pixel is 1/0.64 of the picture's; the first box ends at the picture's bottom.
    assert np.allclose(found.boxes, [[0, 0, 100, 50], [25, 12.5, 75, 37.5]])
    # The mask's edges: columns 16 and 48 are 25 and 75, rows 10 and 25 are 15.6 and 39.1, of whose pixels the centres
    # 16.5 to 38.5 lie inside. It is not cut to its box.
    for mask in found.masks:
        bitmap = np.zeros((50, 100), np.uint8)
        x, y, width, height = mask.window
        bitmap[y : y + height, x : x + width] = mask.bitmap()
        assert bitmap[16:39, 25:75].all()
        assert mask.area == 23 * 50


def test_a_mask_that_lies_in_the_padding_only_is_none(tmp_path: Path) -> None:
    given = answers(((16, 8, 48, 24), 1, 0.8))
    given["masks"][:] = 0.0
    given["masks"][:, :, 40:60] = 1.0
    assert len(run(model(tmp_path, given), grey(50, 100))) == 0


def test_a_score_equal_to_the_threshold_is_not_kept(tmp_path: Path) -> None:
    loaded = model(tmp_path, answers(((16, 8, 48, 24), 1, 0.5)))
    assert len(run(loaded, grey(50, 100), 0.5)) == 0
    assert len(run(loaded, grey(50, 100), 0.4999)) == 1


def test_a_row_without_a_label_is_no_instance(tmp_path: Path) -> None:
    found = run(model(tmp_path, answers(((1, 1, 9, 9), -1, 0.9), ((16, 8, 48, 24), 1, 0.8))), grey(50, 100))
    assert found.class_ids.tolist() == [1]


def test_pictures_of_a_batch_are_found_each_in_its_own_size(tmp_path: Path) -> None:
    loaded = model(tmp_path, answers(((16, 8, 48, 24), 1, 0.8)), ("batch", 3, SIZE, SIZE))
    prepared = [loaded.prepare(grey(50 * scale, 100 * scale)) for scale in (1, 2)]
    outputs = loaded.infer(prepared)
    found = [loaded.finish(one, fitted, 0.5) for one, fitted in zip(outputs, prepared, strict=True)]
    assert np.allclose([one.boxes for one in found], [[[25, 12.5, 75, 37.5]], [[50, 25, 150, 75]]])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"dets": np.zeros((1, 3, 4), np.float32)}, "three outputs.*dets float32"),
        ({"labels": np.zeros((1, 3), np.float32)}, "three outputs.*labels float32"),
        ({"masks": np.zeros((3, SIZE, SIZE), np.float32)}, "three outputs.*masks float32"),
        ({"labels": np.full((1, 3), 2)}, "labels: expected classes 0 to 1, .*got 2"),
    ],
)
def test_tensors_of_another_layout_are_refused_by_name(
    tmp_path: Path, change: dict[str, NDArray[Any]], expected: str
) -> None:
    with pytest.raises(ModelInvalid, match=expected):
        run(model(tmp_path, FOUND | change), grey(50, 100))
