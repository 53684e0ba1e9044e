"""The rfdetr_seg family finds what queries, logits and mask logits say, by numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

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

QUERIES = 5
LABELS = ["cat", "dog", "bird"]
COCO_LABELS = [f"class {position}" for position in range(80)]


def answers(classes: int = 3, *found: tuple[int, int, float]) -> dict[str, NDArray[np.float32]]:
    """Boxes around the middle, a mask over the left half; and these (query, class, score) among the logits."""
    logits = np.full((1, QUERIES, classes), -20, np.float32)
    for query, class_id, score in found:
        logits[0, query, class_id] = math.log(score / (1 - score))
    masks = np.tile(np.array([2, 2, -2, -2], np.float32), (1, QUERIES, 3, 1))
    return {
        "dets": np.tile(np.array([0.5, 0.5, 0.5, 0.5], np.float32), (1, QUERIES, 1)),
        "labels": logits,
        "masks": masks,
    }


def model(
    folder: Path,
    given: dict[str, NDArray[np.float32]],
    picture: tuple[Size, ...] = (1, 3, 32, 64),
    **manifest: object,
) -> Model:
    write_answers(folder / "mine", picture, given, **{"family": "rfdetr_seg", "labels": LABELS} | manifest)
    return load("mine", Device("cpu"), Settings(models_dir=folder, cpu_threads=1))


def run(loaded: Model, image: Image, threshold: float = 0.5) -> Instances:
    prepared = loaded.prepare(image)
    return loaded.finish(loaded.infer([prepared])[0], prepared, threshold)


def grey(height: int, width: int) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def test_the_picture_is_stretched_and_normalised_as_imagenet_is(tmp_path: Path) -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[:] = 255, 0, 51
    tensor = model(tmp_path, answers()).prepare(image).tensors["input"]
    assert tensor.shape == (1, 3, 32, 64)
    by_hand = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    assert np.allclose(tensor[0].transpose(1, 2, 0), by_hand, atol=1e-6)


def test_boxes_scores_and_masks_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    found = run(model(tmp_path, answers(3, (3, 1, 0.75), (0, 2, 0.9))), grey(100, 200))
    assert found.class_ids.tolist() == [2, 1]
    assert np.allclose(found.scores, [0.9, 0.75])
    assert found.boxes.tolist() == [[50, 25, 150, 75]] * 2
    # Between the second and the third of four columns the field passes 0 in the middle; boxes do not cut masks.
    for mask in found.masks:
        assert (mask.window.x, mask.area) == (0, 100 * 100)
        assert mask.crop(mask.window)[:, :100].all()


def test_a_query_may_be_found_once_for_each_class(tmp_path: Path) -> None:
    found = run(model(tmp_path, answers(3, (2, 0, 0.6), (2, 1, 0.8))), grey(50, 50))
    assert found.class_ids.tolist() == [1, 0]


def test_a_score_equal_to_the_threshold_is_not_kept(tmp_path: Path) -> None:
    given = answers(3)
    given["labels"][0, 1, 1] = 0
    loaded = model(tmp_path, given)
    assert len(run(loaded, grey(50, 50), 0.5)) == 0
    assert len(run(loaded, grey(50, 50), 0.4999)) == 1


@pytest.mark.parametrize(("category", "position"), [(1, 0), (11, 10), (13, 11), (18, 16), (90, 79)])
def test_cocos_91_category_numbers_name_its_80_labels(tmp_path: Path, category: int, position: int) -> None:
    found = run(model(tmp_path, answers(91, (0, category, 0.9)), labels=COCO_LABELS), grey(50, 50))
    assert found.class_ids.tolist() == [position]


@pytest.mark.parametrize("unused", [0, 12, 45, 83])
def test_cocos_unused_category_numbers_are_never_found(tmp_path: Path, unused: int) -> None:
    found = run(model(tmp_path, answers(91, (0, unused, 0.9)), labels=COCO_LABELS), grey(50, 50))
    assert len(found) == 0


def test_one_logit_more_than_labels_stands_for_nothing(tmp_path: Path) -> None:
    found = run(model(tmp_path, answers(4, (0, 3, 0.9), (1, 2, 0.8))), grey(50, 50))
    assert found.class_ids.tolist() == [2]


def test_a_background_that_is_listed_as_the_first_label_is_never_found(tmp_path: Path) -> None:
    found = run(model(tmp_path, answers(4, (0, 0, 0.9), (1, 3, 0.8)), labels=["__background__", *LABELS]), grey(50, 50))
    assert found.class_ids.tolist() == [3]


def test_numbers_that_are_not_finite_are_no_instances(tmp_path: Path) -> None:
    given = answers(3, (0, 1, 0.9), (1, 1, 0.8), (2, 1, 0.7))
    given["dets"][0, 0, 2], given["labels"][0, 1, 1] = np.nan, np.nan
    assert np.allclose(run(model(tmp_path, given), grey(50, 50)).scores, [0.7])


def test_pictures_of_a_batch_are_found_each_in_its_own_size(tmp_path: Path) -> None:
    loaded = model(tmp_path, answers(3, (0, 1, 0.9)), ("batch", 3, 32, 64))
    prepared = [loaded.prepare(grey(height, 200)) for height in (100, 40)]
    outputs = loaded.infer(prepared)
    found = [loaded.finish(one, fitted, 0.5) for one, fitted in zip(outputs, prepared, strict=True)]
    assert [one.boxes.tolist() for one in found] == [[[50, 25, 150, 75]], [[50, 10, 150, 30]]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"masks": np.zeros((1, QUERIES, 9), np.float32)}, "three outputs.*masks float32"),
        ({"dets": np.zeros((1, QUERIES, 5), np.float32)}, "three outputs.*dets float32"),
        ({"labels": np.zeros((1, QUERIES, 7), np.float32)}, "labels: expected 3 or 4 logits for 3 labels, got 7"),
        ({"more": np.zeros((1, 2), np.float32)}, "three outputs.*more float32"),
    ],
)
def test_tensors_of_another_layout_are_refused_by_name(
    tmp_path: Path, change: dict[str, NDArray[np.float32]], expected: str
) -> None:
    with pytest.raises(ModelInvalid, match=expected):
        model(tmp_path, answers() | change)


def test_an_input_of_another_rank_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=r"one input float32\[n, 3, height, width\]; got input float32\[3, 32, 64\]"):
        model(tmp_path, answers(), (3, 32, 64))


def test_an_open_size_needs_the_manifests(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="input_size: needed"):
        model(tmp_path, answers(), (1, 3, "height", "width"))
    loaded = model(tmp_path, answers(), (1, 3, "height", "width"), input_size=[16, 24])
    assert loaded.prepare(grey(9, 9)).tensors["input"].shape == (1, 3, 16, 24)
