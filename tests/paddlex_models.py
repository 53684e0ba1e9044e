"""PaddleX model directories for tests: its inputs, and outputs given or enlarged as it enlarges them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

NAMES = ("im_shape", "image", "scale_factor")
LABELS = ("disc", "box")

DETR_STEPS: tuple[dict[str, Any], ...] = (
    {"type": "Resize", "target_size": [640, 640], "keep_ratio": False, "interp": 2},
    {"type": "NormalizeImage", "norm_type": "none", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
    {"type": "Permute"},
)
DETR: dict[str, Any] = {
    "mode": "paddle",
    "draw_threshold": 0.4,
    "Global": {"model_name": "Mask-RT-DETR-S"},
    "arch": "DETR",
    "mask": True,
    "Preprocess": list(DETR_STEPS),
    "label_list": list(LABELS),
}


def write_config(folder: Path, **changes: Any) -> Path:
    """An `inference.yml` of Mask-RT-DETR's kind, whose keys `changes` replaces."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inference.yml").write_text(yaml.safe_dump(DETR | changes), encoding="utf-8")
    return folder


def write_answering(
    folder: Path,
    outputs: Sequence[NDArray[Any]],
    *,
    names: Sequence[str] = NAMES,
    sides: tuple[int | str, int | str] = ("height", "width"),
) -> Path:
    """An `inference.onnx` with PaddleX's three inputs that answers every picture with those outputs."""
    nodes, constants, ports = [], [], []
    for index, value in enumerate(outputs):
        # Masks lie in the file as bytes, or it would be larger than protobuf allows.
        small = value.astype(np.uint8) if value.ndim == 3 else value
        dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
        constants.append(numpy_helper.from_array(np.ascontiguousarray(small), f"constant{index}"))
        nodes.append(helper.make_node("Cast", [f"constant{index}"], [f"fetch_name_{index}"], to=dtype))
        # Paddle leaves the number of rows and the picture's size open, and no other dimension.
        open_sides = [
            side if side == 6 or value.size == 1 else f"open{index}_{axis}" for axis, side in enumerate(value.shape)
        ]
        ports.append(helper.make_tensor_value_info(f"fetch_name_{index}", dtype, open_sides))
    return _save(folder, nodes, names, sides, ports, constants)


def write_enlarging(folder: Path, boxes: NDArray[np.float32], logits: NDArray[np.float32]) -> Path:
    """An `inference.onnx` that ends as Mask-RT-DETR does: every row's mask enlarged to the size that was asked for.

    `boxes` [n,6]: class, score and corners as shares of the picture; `logits` [n,rows,columns]: set where above 0.
    """
    constants = {
        "head": boxes[:, :2],
        "corners": boxes[:, 2:],
        "logits": logits[None],
        "half": np.array(0.5, np.float32),
        "first": np.array([0], np.int64),
        "swap": np.array([1, 0, 1, 0], np.int64),
        "rows": np.array([1, len(logits)], np.int64),
        "count": np.array([len(boxes)], np.int32),
    }
    nodes = [
        helper.make_node("Div", ["im_shape", "scale_factor"], ["exact"]),
        helper.make_node("Add", ["exact", "half"], ["more"]),
        helper.make_node("Floor", ["more"], ["origin"]),
        helper.make_node("Gather", ["origin", "swap"], ["whole"], axis=1),
        helper.make_node("Mul", ["corners", "whole"], ["pixels"]),
        helper.make_node("Concat", ["head", "pixels"], ["fetch_name_0"], axis=1),
        helper.make_node("Identity", ["count"], ["fetch_name_1"]),
        helper.make_node("Cast", ["origin"], ["integers"], to=TensorProto.INT64),
        helper.make_node("Squeeze", ["integers", "first"], ["sides"]),
        helper.make_node("Concat", ["rows", "sides"], ["sizes"], axis=0),
        helper.make_node("Resize", ["logits", "", "", "sizes"], ["large"], mode="linear"),
        helper.make_node("Sigmoid", ["large"], ["soft"]),
        helper.make_node("Greater", ["soft", "half"], ["hard"]),
        helper.make_node("Cast", ["hard"], ["whole_masks"], to=TensorProto.INT32),
        helper.make_node("Squeeze", ["whole_masks", "first"], ["fetch_name_2"]),
    ]
    ports = [
        helper.make_tensor_value_info("fetch_name_0", TensorProto.FLOAT, ["n", 6]),
        helper.make_tensor_value_info("fetch_name_1", TensorProto.INT32, [1]),
        helper.make_tensor_value_info("fetch_name_2", TensorProto.INT32, ["n", "h", "w"]),
    ]
    values = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    return _save(folder, nodes, NAMES, (640, 640), ports, values)


def _save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    names: Sequence[str],
    sides: tuple[int | str, int | str],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
) -> Path:
    shapes: tuple[list[int | str], ...] = (["batch", 2], ["batch", 3, *sides], ["batch", 2])
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip(names, shapes, strict=True)
    ]
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / "inference.onnx"))
    return folder
