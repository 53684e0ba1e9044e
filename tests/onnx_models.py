"""ONNX files for tests, small and made on the spot: a yolo_seg layout whose outputs are known."""

from __future__ import annotations

from pathlib import Path

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
) -> Path:
    """An ONNX file that answers every picture with `head`, each score multiplied by the picture's mean value."""
    rows = SIZE // 4
    constants = {
        "head": head[None],
        "prototypes": np.stack([np.ones((rows, rows)), np.zeros((rows, rows))])[None].astype(np.float32),
        "gain": np.where((np.arange(len(head)) // 4 == 1)[:, None], 1, 0)[None].astype(np.float32),
        "rest": np.where((np.arange(len(head)) // 4 == 1)[:, None], 0, 1)[None].astype(np.float32),
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


def write_package(folder: Path, head: NDArray[np.float32], *, batch: Size = "batch", **manifest: object) -> Path:
    """A model directory: that ONNX file and its model.yaml, whose keys `manifest` replaces."""
    write_onnx(folder / "model.onnx", head, batch=batch)
    content = {"family": "yolo_seg", "labels": list(LABELS), "threshold": 0.25} | manifest
    (folder / "model.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder
