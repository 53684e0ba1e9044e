"""A PaddleX directory runs as it stands: its tensors recognised, its rows read, its masks kept within memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.models import Model, load
from maskmill.worker.models.families.paddlex import MOST_MASK_BYTES
from maskmill.worker.models.fit import within
from tests.onnx_models import head_of, write_onnx
from tests.paddlex_models import LABELS, write_answering, write_config, write_enlarging

HEIGHT, WIDTH = 60, 80
COUNT = np.array([3], np.int32)


def boxes_of(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    """Rows of class, score, x1 y1 x2 y2."""
    return np.array(rows, np.float32).reshape(-1, 6)


def filled(rows: int, dtype: Any = np.int32) -> NDArray[Any]:
    """Masks in which row i has its whole picture set but for the first i columns."""
    masks = np.ones((rows, HEIGHT, WIDTH), dtype)
    for row in range(rows):
        masks[row, :, :row] = 0
    return masks


def opened(folder: Path, *, device: str = "cpu") -> Model:
    kind = Device("sim", 1) if device == "sim" else Device("cpu")
    return load(folder.name, kind, Settings(models_dir=folder.parent, cpu_threads=1))


def answering(folder: Path, *outputs: NDArray[Any], **how: Any) -> Model:
    write_config(write_answering(folder, outputs, **how))
    return opened(folder)


def segmented(model: Model, image: Image, threshold: float = 0.5) -> Instances:
    prepared = model.prepare(image)
    [outputs] = model.infer([prepared])
    return model.finish(outputs, prepared, threshold)


def grey(height: int = HEIGHT, width: int = WIDTH) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def test_labels_threshold_and_size_come_from_the_inference_yml(tmp_path: Path) -> None:
    model = answering(tmp_path / "mine", boxes_of((0, 0.9, 0, 0, 9, 9)), COUNT, filled(1))
    assert (model.name, model.family, model.labels) == ("mine", "paddlex", LABELS)
    assert (model.threshold, model.input_size, model.batch_limit) == (0.4, (640, 640), 1)


def test_outputs_are_recognised_by_shape_and_type_in_any_order(tmp_path: Path) -> None:
    boxes = boxes_of((1, 0.9, 2, 3, 20, 30))
    expected = segmented(answering(tmp_path / "one", boxes, COUNT, filled(1)), grey())
    turned = segmented(answering(tmp_path / "two", filled(1, np.float32), COUNT, boxes), grey())
    assert turned.boxes.tolist() == expected.boxes.tolist() == [[2, 3, 20, 30]]
    assert turned.masks[0].area == expected.masks[0].area == 18 * 27


@pytest.mark.parametrize("names", [("im_shape", "image", "scale_factor"), ("x0", "x1", "x2")])
def test_inputs_are_recognised_by_name_or_by_paddlexs_order(tmp_path: Path, names: tuple[str, ...]) -> None:
    model = answering(tmp_path / "mine", boxes_of((0, 0.9, 0, 0, 9, 9)), COUNT, filled(1), names=names)
    tensors = model.prepare(grey()).tensors
    assert tensors[names[0]].tolist() == [[640, 640]]
    assert tensors[names[1]].shape == (1, 3, 640, 640)
    assert tensors[names[2]].tolist() == np.float32([[640 / HEIGHT, 640 / WIDTH]]).tolist()


def test_a_score_equal_to_the_threshold_is_not_kept_and_the_best_come_first(tmp_path: Path) -> None:
    rows = boxes_of((0, 0.5, 0, 0, 9, 9), (0, 0.6, 0, 0, 9, 9), (1, 0.75, 0, 0, 9, 9))
    instances = segmented(answering(tmp_path / "mine", rows, COUNT, filled(3)), grey())
    assert instances.class_ids.tolist() == [1, 0]
    assert instances.scores.tolist() == np.float32([0.75, 0.6]).tolist()


def test_a_box_that_is_empty_inside_the_picture_takes_its_mask_along(tmp_path: Path) -> None:
    outside = (0, 0.9, WIDTH + 5, 3, WIDTH + 9, 9)
    rows = boxes_of(outside, (1, 0.8, -9, -9, 10, 10), (0, 0.7, 10, 10, 10.2, 20))
    instances = segmented(answering(tmp_path / "mine", rows, COUNT, filled(3)), grey())
    assert instances.boxes.tolist() == [[0, 0, 10, 10]]
    # Row 1 lacks the first column, row 0 none.
    assert instances.masks[0].area == 9 * 10


@pytest.mark.parametrize("threshold", [-1, 0, 0.3])
def test_rows_that_only_fill_up_are_never_instances(tmp_path: Path, threshold: float) -> None:
    rows = boxes_of((0, 0, 0, 0, 9, 9), (-1, 0.9, 0, 0, 9, 9), (0, np.nan, 0, 0, 9, 9), (0, 0.9, np.nan, 0, 9, 9))
    assert len(segmented(answering(tmp_path / "mine", rows, COUNT, filled(4)), grey(), threshold)) == 0


def test_boxes_without_any_row_are_no_instances(tmp_path: Path) -> None:
    model = answering(tmp_path / "mine", boxes_of(), COUNT, np.zeros((0, 1, 1), np.int32))
    assert len(segmented(model, grey())) == 0


def solo(count: int) -> tuple[NDArray[Any], ...]:
    """What SOLOv2 answers: a scalar, labels, scores and masks, the last row a dummy of score 0 with an empty mask."""
    masks = np.zeros((count, HEIGHT, WIDTH), np.uint8)
    masks[:-1, 10:20, 30:33] = 1
    scores = np.full(count, 0.8, np.float32)
    scores[-1] = 0
    return np.array(count, np.int64), np.ones(count, np.int64), scores, masks


def test_without_boxes_the_masks_extent_is_the_box(tmp_path: Path) -> None:
    instances = segmented(answering(tmp_path / "mine", *solo(3)), grey(), 0)
    assert instances.boxes.tolist() == [[30, 10, 33, 20]] * 2
    assert instances.class_ids.tolist() == [1, 1]
    assert [mask.area for mask in instances.masks] == [30, 30]


def test_a_simulated_device_repeats_outputs_without_a_batch_dimension(tmp_path: Path) -> None:
    write_config(write_answering(tmp_path / "mine", solo(3)))
    assert len(segmented(opened(tmp_path / "mine", device="sim"), grey())) == 2


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (
            (COUNT, filled(1)),
            r"expected outputs boxes float32\[n, 6\].*; got fetch_name_0 int32\[1\], fetch_name_1 int32",
        ),
        ((boxes_of((0, 0.9, 0, 0, 9, 9)), COUNT), r"expected outputs .* got fetch_name_0 float32"),
        (
            (boxes_of((0, 0.9, 0, 0, 9, 9)), COUNT, filled(2)),
            r"as many masks as boxes, got .*fetch_name_2 int32\[2, 60, 80\]",
        ),
        ((np.zeros((1, 7), np.float32), COUNT, filled(1)), r"expected outputs .*; got fetch_name_0 float32\[1, 7\]"),
        (
            (boxes_of((2, 0.9, 0, 0, 9, 9)), COUNT, filled(1)),
            r"fetch_name_0: expected classes 0 to 1, as 2 labels are given, got 2",
        ),
    ],
)
def test_outputs_that_are_not_as_expected_are_named_on_load(
    tmp_path: Path, outputs: tuple[NDArray[Any], ...], expected: str
) -> None:
    with pytest.raises(ModelInvalid, match=expected):
        answering(tmp_path / "mine", *outputs)


def test_a_graph_of_a_larger_batch_is_refused(tmp_path: Path) -> None:
    folder = write_config(write_answering(tmp_path / "mine", (boxes_of((0, 0.9, 0, 0, 9, 9)), COUNT, filled(1))))
    graph = onnx.load(str(folder / "inference.onnx"))
    for port in graph.graph.input:
        port.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(graph, str(folder / "inference.onnx"))
    with pytest.raises(ModelInvalid, match=r"image \[1, 3, height, width\].*; got im_shape float32\[4, 2\]"):
        opened(folder)


def test_a_graph_of_another_size_than_the_inference_yml_is_refused(tmp_path: Path) -> None:
    row = boxes_of((0, 0.9, 0, 0, 9, 9))
    with pytest.raises(ModelInvalid, match=r"image float32\[batch, 3, 320, 320\]: inference.yml resizes .*640"):
        answering(tmp_path / "mine", row, COUNT, filled(1), sides=(320, 320))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label_list": None}, "label_list: Input should be a valid list"),
        ({"Preprocess": None}, "Preprocess: Input should be a valid list"),
        ({"Preprocess": []}, "Preprocess: expected a Resize among its steps"),
        ({"Preprocess": [{"type": "LetterBox"}]}, "Preprocess.0: Input tag 'LetterBox' .*'Resize', 'NormalizeImage'"),
        ({"Preprocess": [{"type": "Resize", "target_size": [10**6, 640]}]}, "target_size.0: Input should be less"),
        ({"Preprocess": [{"type": "PadStride", "stride": 10**9}]}, "PadStride.stride: Input should be less"),
        ({"Preprocess": [{"type": "NormalizeImage", "std": [0, 1, 1]}]}, "std.0: Input should be greater than 0"),
        ({"draw_threshold": 1}, "draw_threshold: Input should be less than 1"),
    ],
)
def test_a_key_of_the_inference_yml_that_does_not_fit_is_named(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    folder = write_answering(tmp_path / "mine", (boxes_of((0, 0.9, 0, 0, 9, 9)), COUNT, filled(1)))
    write_config(folder, **changes)
    with pytest.raises(ModelInvalid, match=rf"inference.yml: .*{expected}"):
        opened(folder)


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "mine")
    write_onnx(folder / "inference.onnx", head_of())
    with pytest.raises(ModelInvalid, match=r"expected three inputs float32: .*; got images float32"):
        opened(folder)


def test_a_model_yaml_of_this_family_needs_the_inference_yml(tmp_path: Path) -> None:
    folder = write_answering(tmp_path / "mine", (boxes_of((0, 0.9, 0, 0, 9, 9)), COUNT, filled(1)))
    (folder / "model.yaml").write_text("family: paddlex\nlabels: [a]\n", encoding="utf-8")
    with pytest.raises(ModelInvalid, match=r"inference\.yml: needed"):
        opened(folder)


@pytest.mark.parametrize(
    ("picture", "most", "expected"),
    [
        ((480, 640), 480 * 640, (480, 640)),
        ((480, 640), 120 * 160, (120, 160)),
        ((1, 1_000_000), 1000, (1, 1000)),
        ((1_000_000, 1), 1000, (1000, 1)),
        ((9000, 12_000), 671_088, (709, 945)),
    ],
)
def test_masks_are_asked_for_at_the_pictures_size_or_in_its_shape(
    picture: tuple[int, int], most: int, expected: tuple[int, int]
) -> None:
    assert within(*picture, most) == expected


def disc(folder: Path) -> Model:
    """A graph whose 100 rows hold one disc: its centre in the middle, its radius a quarter of each side."""
    rows, columns = (np.mgrid[0:160, 0:160] + 0.5) / 160
    logits = (8 * (0.25 - np.hypot(rows - 0.5, columns - 0.5))).astype(np.float32)
    boxes = np.tile(boxes_of((0, 0.1, 0.25, 0.25, 0.75, 0.75)), (100, 1))
    boxes[7, 1] = 0.9
    write_config(write_enlarging(folder, boxes, np.tile(logits, (100, 1, 1))))
    return opened(folder)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (3000, 4000)])
def test_however_large_the_picture_the_disc_fills_the_share_of_it_that_a_disc_does(
    tmp_path: Path, height: int, width: int
) -> None:
    model = disc(tmp_path / "mine")
    prepared = model.prepare(grey(height, width))
    [outputs] = model.infer([prepared])
    assert outputs["fetch_name_2"].nbytes <= MOST_MASK_BYTES
    instances = model.finish(outputs, prepared, 0.5)
    assert np.abs(instances.boxes - [width / 4, height / 4, 3 * width / 4, 3 * height / 4]).max() < 0.5
    rows, columns = np.ogrid[0:height, 0:width]
    exact = np.hypot((rows + 0.5) / height - 0.5, (columns + 0.5) / width - 0.5) < 0.25
    x, y, box_width, box_height = instances.masks[0].window
    whole = np.zeros_like(exact)
    whole[y : y + box_height, x : x + box_width] = instances.masks[0].bitmap()
    assert (whole & exact).sum() / (whole | exact).sum() > 0.99
