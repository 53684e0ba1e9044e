"""ONNX files for tests, small and made on the spot: each family's layout, with outputs that are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LABELS = ("disc", "box")
SIZE = 64
COEFFICIENTS = 2
ANCHORS = 84

Size = int | str


def head_of(*found: tuple[tuple[float, float, float, float], int, float]) -> NDArray[np.float32]:
    """A head [4 + 2 + 2, ANCHORS] that finds these: (x1, y1, x2, y2) in input pixels, class id, score; mask full."""
    head = np.zeros((4 + len(LABELS) + COEFFICIENTS, ANCHORS), np.float32)
    for anchor, ((x1, y1, x2, y2), class_id, score) in enumerate(found):
        head[:4, anchor] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        head[4 + class_id, anchor] = score
        head[-COEFFICIENTS, anchor] = 1
    return head


def write_onnx(
    path: Path,
    head: NDArray[np.float32],
    *,
    batch: Size = "batch",
    sides: tuple[Size, Size] = (SIZE, SIZE),
    metadata: dict[str, str] | None = None,
    by_brightness: bool = True,
) -> Path:
    """An ONNX file that answers every picture with `head`, each score multiplied by the picture's mean value."""
    rows = SIZE // 4
    scaled = (np.arange(len(head)) // 4 == 1)[:, None] & by_brightness
    constants = {
        "head": head[None],
        "prototypes": np.stack([np.ones((rows, rows)), np.zeros((rows, rows))])[None].astype(np.float32),
        "gain": np.where(scaled, 1, 0)[None].astype(np.float32),
        "rest": np.where(scaled, 0, 1)[None].astype(np.float32),
        "zero": np.zeros(1, np.float32),
        "flat": np.array([-1, 1, 1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean4", "flat"], ["mean"]),
        helper.make_node("Mul", ["gain", "mean"], ["scale"]),
        helper.make_node("Add", ["scale", "rest"], ["factor"]),
        helper.make_node("Mul", ["head", "factor"], ["output0"]),
        helper.make_node("Mul", ["mean4", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "prototypes"], ["output1"]),
    ]
    # Rows 4 to 7 are scaled, of which only the scores are meant: the coefficients' sign decides, not their size.
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *sides])],
        [
            helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, len(head), head.shape[1]]),
            helper.make_tensor_value_info("output1", TensorProto.FLOAT, [batch, COEFFICIENTS, rows, rows]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def write_answers(
    folder: Path,
    picture: tuple[Size, ...],
    answers: Mapping[str, NDArray[Any]],
    **manifest: object,
) -> Path:
    """A model directory whose ONNX file answers every picture with these arrays, which have a leading 1 if it has.

    `picture` is the input's shape; where its first of four sides is a name, so many answers are given as pictures.
    """
    batch = picture[0] if len(picture) == 4 else 1
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=list(range(len(picture)))[-3:], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants: dict[str, NDArray[Any]] = {"zero": np.zeros(1, np.float32)}
    outputs = []
    for name, value in answers.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        constants |= {f"{name}_is": value, f"{name}_rank": np.array([-1, *[1] * (value.ndim - 1)], np.int64)}
        nodes += [
            helper.make_node("Reshape", ["nothing", f"{name}_rank"], [f"{name}_flat"]),
            helper.make_node("Cast", [f"{name}_flat"], [f"{name}_nothing"], to=kind),
            helper.make_node("Add", [f"{name}_is", f"{name}_nothing"], [name]),
        ]
        outputs.append(
            helper.make_tensor_value_info(name, kind, [batch if len(picture) == 4 else None, *value.shape[1:]])
        )
    _save(folder / "model.onnx", nodes, picture, outputs, constants)
    return _with_manifest(folder, manifest)


def write_torchvision(folder: Path, boxes: list[tuple[float, float, float, float]], **manifest: object) -> Path:
    """A model directory in torchvision's Mask R-CNN layout: label 1, 2, ... for each box, scores 0.9, 0.8, ...

    The mask of each is the picture's red channel, so a probability of one half is a red of 127.5.
    """
    count = len(boxes)
    constants: dict[str, NDArray[Any]] = {
        "boxes_are": np.array(boxes, np.float32),
        "labels_are": np.arange(1, count + 1),
        "scores_are": np.linspace(0.9, 1 - count / 10, count).astype(np.float32),
        "first": np.zeros(1, np.int64),
        "times": np.array([count, 1, 1, 1], np.int64),
        "front": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["image", "first"], ["red"], axis=0),
        helper.make_node("Unsqueeze", ["red", "front"], ["mask"]),
        helper.make_node("Tile", ["mask", "times"], ["masks"]),
        *(helper.make_node("Identity", [f"{name}_are"], [name]) for name in ("boxes", "labels", "scores")),
    ]
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["n", 1, "h", "w"]),
    ]
    _save(folder / "model.onnx", nodes, (3, "height", "width"), outputs, constants, "image")
    return _with_manifest(folder, {"family": "mask_rcnn", "labels": ["cat", "dog"]} | manifest)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    picture: tuple[Size, ...],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, NDArray[Any]],
    input_name: str = "input",
) -> None:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, list(picture))],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def _with_manifest(folder: Path, manifest: dict[str, object]) -> Path:
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return folder


def write_package(
    folder: Path,
    head: NDArray[np.float32],
    *,
    batch: Size = "batch",
    by_brightness: bool = True,
    **manifest: object,
) -> Path:
    """A model directory: that ONNX file and its model.yaml, whose keys `manifest` replaces."""
    write_onnx(folder / "model.onnx", head, batch=batch, by_brightness=by_brightness)
    content = {"family": "yolo_seg", "labels": list(LABELS), "threshold": 0.25} | manifest
    return _with_manifest(folder, content)
