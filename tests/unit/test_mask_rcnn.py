"""The mask_rcnn family reads torchvision's and the ONNX Model Zoo's exports, by numbers worked out by hand."""

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
from maskmill.worker.models.families.mask_rcnn import MASK_BYTES
from tests.onnx_models import Size, write_answers, write_torchvision

LABELS = ["cat", "dog"]
Answers = dict[str, NDArray[Any]]


def opened(folder: Path) -> Model:
    return load("mine", Device("cpu"), Settings(models_dir=folder, cpu_threads=1))


def run(loaded: Model, image: Image, threshold: float = 0.5) -> Instances:
    prepared = loaded.prepare(image)
    return loaded.finish(loaded.infer([prepared])[0], prepared, threshold)


def zoo_answers(box: tuple[float, float, float, float] = (80, 160, 240, 480)) -> Answers:
    """One dog, named as the Zoo names its outputs; the left half of its mask is 1."""
    mask = np.zeros((1, 1, 28, 28), np.float32)
    mask[..., :14] = 1
    return {
        "6568": np.array([box], np.float32),
        "6570": np.array([2]),
        "6572": np.array([0.9], np.float32),
        "6887": mask,
    }


def zoo(folder: Path, given: Answers, picture: tuple[Size, ...] = (3, "height", "width"), **manifest: object) -> Model:
    write_answers(folder / "mine", picture, given, **{"family": "mask_rcnn", "labels": LABELS} | manifest)
    return opened(folder)


def painted(height: int, width: int) -> Image:
    """Red in columns 30 to 49 of rows 10 to 19, else black."""
    image = np.zeros((height, width, 3), np.uint8)
    image[10:20, 30:50, 0] = 255
    return image


def test_torchvisions_model_gets_the_picture_as_it_is(tmp_path: Path) -> None:
    write_torchvision(tmp_path / "mine", [(0, 0, 9, 9)])
    image = np.zeros((37, 61, 3), np.uint8)
    image[:] = 255, 51, 0
    tensor = opened(tmp_path).prepare(image).tensors["image"]
    assert tensor.shape == (3, 37, 61)
    assert np.allclose(tensor.transpose(1, 2, 0), [1, 0.2, 0])


def test_torchvisions_masks_are_taken_where_they_exceed_one_half(tmp_path: Path) -> None:
    write_torchvision(tmp_path / "mine", [(28, 8, 55, 22), (30, 10, 500, 20)])
    found = run(opened(tmp_path), painted(40, 100))
    assert found.class_ids.tolist() == [0, 1]
    assert np.allclose(found.scores, [0.9, 0.8])
    assert found.boxes.tolist() == [[28, 8, 55, 22], [30, 10, 100, 20]]
    for mask in found.masks:
        assert mask.area == 10 * 20
        assert (mask.crop(mask.window)[:, 30 - mask.window.x : 50 - mask.window.x].sum(axis=0) == 10).all()


def test_a_mask_value_of_exactly_one_half_is_outside(tmp_path: Path) -> None:
    write_torchvision(tmp_path / "mine", [(0, 0, 9, 9)], normalisation={"scale": 200.0})
    image = painted(40, 100)
    image[30:, :, 0] = 100
    [mask] = run(opened(tmp_path), image).masks
    assert mask.area == 10 * 20


def test_a_huge_picture_is_made_smaller_for_torchvision_and_found_in_its_own_pixels(tmp_path: Path) -> None:
    write_torchvision(tmp_path / "mine", [(0, 0, 100, 50)])
    image = np.zeros((2000, 4000, 3), np.uint8)
    image[:, 1000:3000, 0] = 255
    loaded = opened(tmp_path)
    prepared = loaded.prepare(image)
    _, rows, columns = prepared.tensors["image"].shape
    assert 0.99 < rows * columns * 4 * 100 / MASK_BYTES <= 1
    found = loaded.finish(loaded.infer([prepared])[0], prepared, 0.5)
    assert np.allclose(found.boxes, [[0, 0, 100 * 4000 / columns, 50 * 2000 / rows]], rtol=1e-5)
    assert abs(found.masks[0].area - 2000 * 2000) < 2000 * 2


def test_the_zoos_model_gets_bgr_less_its_mean_and_zeros_to_a_multiple_of_32(tmp_path: Path) -> None:
    image = np.zeros((100, 150, 3), np.uint8)
    image[:] = 10, 20, 30
    tensor = zoo(tmp_path, zoo_answers()).prepare(image).tensors["input"]
    assert tensor.shape == (3, 800, 1216)
    pixels = tensor.transpose(1, 2, 0)
    assert np.allclose(pixels[:, :1200], [30 - 102.9801, 20 - 115.9465, 10 - 122.7717], atol=1e-4)
    assert (pixels[:, 1200:] == 0).all()


@pytest.mark.parametrize(
    ("size", "bounds", "expected"),
    [
        ((480, 640), None, (800, 1088)),
        ((100, 1000), None, (160, 1344)),
        ((640, 480), [960, 1280], (960, 736)),
        ((720, 1280), [960, 1280], (736, 1280)),
        ((4000, 4000), [960, 1280], (800, 800)),
    ],
)
def test_the_shorter_side_is_800_unless_the_bounds_are_smaller(
    tmp_path: Path, size: tuple[int, int], bounds: list[int] | None, expected: tuple[int, int]
) -> None:
    loaded = zoo(tmp_path, zoo_answers(), **{"input_size": bounds} if bounds else {})
    assert loaded.prepare(np.zeros((*size, 3), np.uint8)).tensors["input"].shape == (3, *expected)


@pytest.mark.parametrize("batched", [False, True])
def test_the_zoos_masks_are_stretched_over_their_boxes(tmp_path: Path, batched: bool) -> None:
    given, picture = zoo_answers(), (3, "height", "width")
    if batched:
        given, picture = {name: value[None] for name, value in given.items()}, (1, 3, "height", "width")
    found = run(zoo(tmp_path, given, picture), np.zeros((100, 150, 3), np.uint8))
    assert found.class_ids.tolist() == [1]
    # The picture was enlarged eight times. The left half of 20 columns is set.
    assert found.boxes.tolist() == [[10, 20, 30, 60]]
    [mask] = found.masks
    assert mask.crop(mask.window).tolist() == [[1] * 10 + [0] * 10] * 40


def test_a_box_beyond_the_picture_shows_the_part_of_its_mask_that_is_inside(tmp_path: Path) -> None:
    found = run(zoo(tmp_path, zoo_answers((1120, 160, 1280, 480))), np.zeros((100, 150, 3), np.uint8))
    assert found.boxes.tolist() == [[140, 20, 150, 60]]
    # Ten of the mask's twenty columns lie inside, and they are its left half.
    assert found.masks[0].area == 10 * 40


def test_labels_may_begin_with_the_background(tmp_path: Path) -> None:
    loaded = zoo(tmp_path, zoo_answers(), labels=["__background__", *LABELS])
    found = run(loaded, np.zeros((100, 150, 3), np.uint8))
    assert [loaded.labels[class_id] for class_id in found.class_ids] == ["dog"]


def test_a_model_that_finds_nothing_is_sound(tmp_path: Path) -> None:
    given = {name: value[:0] for name, value in zoo_answers().items()}
    assert len(run(zoo(tmp_path, given), np.zeros((100, 150, 3), np.uint8))) == 0


def test_a_fixed_input_gets_the_picture_at_its_top_left(tmp_path: Path) -> None:
    given = zoo_answers((8, 16, 24, 48))
    found = run(zoo(tmp_path, given, (3, 64, 64)), np.zeros((100, 200, 3), np.uint8))
    assert np.allclose(found.boxes, [[25, 50, 75, 100]])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"6568": np.zeros((1, 5), np.float32)}, r"boxes float32\[n, 4\].*6568 float32\[1, 5\]"),
        ({"6887": np.zeros((1, 3, 28, 28), np.float32)}, r"masks float32.*6887 float32\[1, 3, 28, 28\]"),
        ({"6572": np.zeros((2,), np.float32)}, "as many boxes, labels, scores and masks"),
        ({"6570": np.array([3])}, "6570: expected classes 1 to 2, as 2 labels are given, got 3"),
        ({"6570": np.zeros(1, np.float32)}, "four outputs.*6570 float32"),
    ],
)
def test_tensors_of_another_layout_are_refused_by_name(tmp_path: Path, change: Answers, expected: str) -> None:
    with pytest.raises(ModelInvalid, match=expected):
        zoo(tmp_path, zoo_answers() | change)


@pytest.mark.parametrize("picture", [(1, "height", "width"), (4, 3, "height", "width"), (3, "height")])
def test_an_input_of_another_layout_is_refused_by_name(tmp_path: Path, picture: tuple[Size, ...]) -> None:
    with pytest.raises(ModelInvalid, match=r"one input float32\[3, height, width\].*input float32"):
        zoo(tmp_path, zoo_answers(), picture)
