"""Whatever tensors a model has, it is read or refused by the name of the one that is not as expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.masks.instances import Instances
from maskmill.worker.models import Model, load
from tests.onnx_models import LABELS, write_answers
from tests.paddlex_models import write_answering, write_config

SIDE = 64
BOXES = np.array([[8, 8, 40, 40], [1, 1, 30, 20], [-5, -5, 80, 80]], np.float32)
SCORES = np.array([[0.9], [0.8], [0.7]], np.float32)
CLASSES = np.array([[0], [1], [0]])

Answers = dict[str, NDArray[Any]]

FAMILIES: dict[str, Answers] = {
    "mask_rcnn": {
        "boxes": BOXES,
        "labels": CLASSES[:, 0] + 1,
        "scores": SCORES[:, 0],
        "masks": np.ones((3, 1, 28, 28), np.float32),
    },
    "rfdetr_seg": {
        "dets": np.full((1, 3, 4), 0.5, np.float32),
        "labels": np.full((1, 3, 2), 2, np.float32),
        "masks": np.ones((1, 3, 16, 16), np.float32),
    },
    "rtmdet_ins": {
        "dets": np.hstack([BOXES, SCORES])[None],
        "labels": CLASSES.T,
        "masks": np.ones((1, 3, SIDE, SIDE), np.float32),
    },
    "yolo_seg": {
        "head": np.hstack([BOXES, SCORES, CLASSES, np.ones((3, 2))])[None].astype(np.float32),
        "prototypes": np.ones((1, 2, 16, 16), np.float32),
    },
    "paddlex": {
        "fetch_name_0": np.hstack([CLASSES, SCORES, BOXES]).astype(np.float32),
        "fetch_name_1": np.array([3], np.int32),
        "fetch_name_2": np.ones((3, SIDE, SIDE), np.int32),
    },
    "solov2": {
        "fetch_name_0": np.array(3),
        "fetch_name_1": CLASSES[:, 0],
        "fetch_name_2": SCORES[:, 0],
        "fetch_name_3": np.ones((3, SIDE, SIDE), np.uint8),
    },
}
CHANGES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "another type": lambda value: value.astype(np.int32 if value.dtype.kind == "f" else np.float32),
    "nothing in it": lambda value: value[..., :0],
    "a dimension more": lambda value: value[None],
    "a row more": lambda value: np.repeat(value, 2, axis=-2 if value.ndim == 2 else -3),
}
# A final head's rows are counted by nothing else; PaddleX's masks may be of any type.
FITTING = [("yolo_seg", "head", "a row more"), ("paddlex", "fetch_name_2", "another type")]
UNFIT = [
    (family, name, change)
    for family, answers in FAMILIES.items()
    for name, value in answers.items()
    for change in CHANGES
    if value.ndim > 1 and family != "solov2" and (family, name, change) not in FITTING
]
FLOATS = [
    (family, name)
    for family, answers in FAMILIES.items()
    for name, value in answers.items()
    if value.dtype == np.float32
]
# More than a picture may have, all of class 1 before all of class 0.
CROWDS: dict[str, Answers] = {
    "rfdetr_seg": {
        "dets": np.full((1, 200, 4), 0.5, np.float32),
        "labels": np.tile(np.array([1, 2], np.float32), (1, 200, 1)),
        "masks": np.ones((1, 200, 4, 4), np.float32),
    },
    "yolo_seg": {
        "head": np.array(
            [[[8, 8, 40, 40, 0.6 + class_id / 5, class_id, 1, 1] for class_id in [0, 1] * 200]], np.float32
        ),
        "prototypes": np.ones((1, 2, 16, 16), np.float32),
    },
}
OUT = np.inf
IMPOSSIBLE = (np.nan, np.inf, -np.inf, 1e30, -1e30, 1e6)


def made(folder: Path, family: str, answers: Answers) -> Model:
    if family in ("paddlex", "solov2"):
        write_config(write_answering(folder / "mine", list(answers.values())), arch="SOLOv2")
    else:
        picture = (3, "height", "width") if family == "mask_rcnn" else (1, 3, SIDE, SIDE)
        write_answers(folder / "mine", picture, answers, family=family, labels=list(LABELS))
    return load("mine", Device("cpu"), Settings(models_dir=folder, cpu_threads=1))


def found(model: Model, height: int = SIDE, width: int = SIDE, threshold: float | Sequence[float] = 0.5) -> Instances:
    prepared = model.prepare(np.full((height, width, 3), 90, np.uint8))
    [outputs] = model.infer([prepared])
    return model.finish(outputs, prepared, threshold)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layout_itself_is_read(tmp_path: Path, family: str) -> None:
    assert len(found(made(tmp_path, family, FAMILIES[family]))) >= 3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("thresholds", [(0.5, OUT), (OUT, 0.5), (0.89, 0.75), (0.75, 0.89)])
def test_each_class_has_a_threshold_of_its_own(tmp_path: Path, family: str, thresholds: tuple[float, float]) -> None:
    model = made(tmp_path, family, FAMILIES[family])
    expected, instances = facts(found(model)), facts(found(model, threshold=thresholds))
    assert instances == [one for one in expected if one[0] > thresholds[one[1]]]
    assert instances != expected


def facts(found: Instances) -> list[tuple[Any, ...]]:
    """Score, class, box and mask of each."""
    masks = [mask.rle(SIDE, SIDE) for mask in found.masks]
    return list(zip(found.scores.tolist(), found.class_ids.tolist(), found.boxes.tolist(), masks, strict=True))


@pytest.mark.parametrize("family", CROWDS)
def test_what_is_not_wanted_takes_no_place_of_what_is(tmp_path: Path, family: str) -> None:
    model = made(tmp_path, family, CROWDS[family])
    assert np.bincount(found(model).class_ids).tolist() == [100, 200]
    assert np.bincount(found(model, threshold=(0.5, OUT)).class_ids).tolist() == [200]


@pytest.mark.parametrize(("family", "name", "change"), UNFIT)
def test_tensors_that_do_not_fit_are_named_on_load(tmp_path: Path, family: str, name: str, change: str) -> None:
    answers = FAMILIES[family] | {name: CHANGES[change](FAMILIES[family][name])}
    with pytest.raises(ModelInvalid, match=r"expected .*got ") as caught:
        made(tmp_path, family, answers)
    # Of two that disagree either may be the wrong one.
    assert any(tensor in caught.value.reason for tensor in ([name] if change != "a row more" else answers))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(("family", "name"), FLOATS)
def test_numbers_out_of_all_range_are_refused_by_name_or_no_instances(tmp_path: Path, family: str, name: str) -> None:
    for number in IMPOSSIBLE:
        changed = FAMILIES[family][name].copy()
        changed.reshape(-1)[::3] = number
        instances, refused = attempt(tmp_path / str(number), family, FAMILIES[family] | {name: changed})
        assert refused is None or f"{name}: expected" in refused.reason
        for one in instances:
            assert (one.boxes[:, :2] < one.boxes[:, 2:]).all()
            assert (one.scores <= 1).all()
            assert all(mask.area > 0 for mask in one.masks)


def attempt(folder: Path, family: str, answers: Answers) -> tuple[list[Instances], ModelInvalid | None]:
    """What pictures of several shapes give, or why the model is refused."""
    try:
        model = made(folder, family, answers)
        return [found(model, *size, threshold=1e-4) for size in ((SIDE, SIDE), (1, 1), (1, 3000))], None
    except ModelInvalid as error:
        return [], error


def test_scores_that_are_no_probabilities_are_refused(tmp_path: Path) -> None:
    answers = FAMILIES["rtmdet_ins"]["dets"].copy()
    answers[..., 4] = 3.5
    with pytest.raises(ModelInvalid, match=r"dets: expected scores from 0 to 1, got 3\.5"):
        made(tmp_path, "rtmdet_ins", FAMILIES["rtmdet_ins"] | {"dets": answers})


@pytest.mark.parametrize("family", ["rfdetr_seg", "rtmdet_ins", "yolo_seg"])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_outputs_in_half_or_double_precision_are_read_alike(tmp_path: Path, family: str, dtype: Any) -> None:
    expected = found(made(tmp_path / "single", family, FAMILIES[family]))
    other = {
        name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in FAMILIES[family].items()
    }
    instances = found(made(tmp_path / "other", family, other))
    assert instances.boxes.tolist() == expected.boxes.tolist()
    assert np.allclose(instances.scores, expected.scores, atol=1e-3)
    assert [mask.area for mask in instances.masks] == [mask.area for mask in expected.masks]


def test_a_box_that_is_inside_out_is_no_instance(tmp_path: Path) -> None:
    answers = FAMILIES["rtmdet_ins"]["dets"].copy()
    answers[0, 0, :4] = 40, 8, 8, 40
    assert len(found(made(tmp_path, "rtmdet_ins", FAMILIES["rtmdet_ins"] | {"dets": answers}))) == 2


@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_mask_rcnn_with_a_batch_dimension_runs_one_picture_at_a_time(tmp_path: Path, batch: int | str) -> None:
    picture = (batch, 3, "height", "width")
    write_answers(tmp_path / "mine", picture, FAMILIES["mask_rcnn"], family="mask_rcnn", labels=list(LABELS))
    model = load("mine", Device("cpu"), Settings(models_dir=tmp_path, cpu_threads=1))
    assert model.batch_limit == 1
    assert len(found(model)) == 3
