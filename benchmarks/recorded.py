"""A model whose every output is what a real model found on one real picture.

A simulated device answers each picture with its first run. For a real model that is the warm-up picture, on which it
finds next to nothing; with this file each picture costs what a picture of COCO costs to finish, draw and encode.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.pictures import data_folder, picture_files
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.images.decode import decode
from maskmill.worker.models import Model, Outputs, Prepared, load

NAME = "recorded"
SAMPLE = 8


def record(name: str, folder: Path) -> Path:
    """`recorded.onnx` in `folder`: the tensors and metadata of model `name`, the outputs those of the typical picture.

    Typical is the picture of val79 whose outputs, given for every picture, come nearest to the means of the real runs
    in instances a picture and in share of the picture covered, with no less of either.
    """
    settings = Settings(models_dir=data_folder() / "weights")
    model = load(name, Device("cpu"), settings)
    runs = [_run(model, file, settings) for file in picture_files()]
    real = np.mean([_facts(model, prepared, outputs) for prepared, outputs in runs], axis=0)
    fits = [prepared for prepared, _ in runs[::SAMPLE]]
    means = np.array([np.mean([_facts(model, fit, outputs) for fit in fits], axis=0) for _, outputs in runs])
    surplus = means / real - 1
    typical = int(np.argmin(np.where((surplus >= 0).all(axis=1), surplus.sum(axis=1), np.inf)))
    path = folder / f"{NAME}.onnx"
    onnx.save(_constant(settings.models_dir / f"{name}.onnx", runs[typical][1]), path)
    return path


def _run(model: Model, file: Path, settings: Settings) -> tuple[Prepared, Outputs]:
    prepared = model.prepare(decode(file.read_bytes(), None, None, settings))
    return prepared, model.infer([prepared])[0]


def _facts(model: Model, prepared: Prepared, outputs: Outputs) -> tuple[float, float]:
    """Instances, and the share of the picture that their masks cover, each counted for itself."""
    instances = model.finish(outputs, prepared, model.threshold)
    return len(instances), sum(mask.area for mask in instances.masks) / (prepared.fit.height * prepared.fit.width)


def _constant(weights: Path, outputs: Outputs) -> onnx.ModelProto:
    """The model of `weights` with its graph replaced by constants."""
    model = onnx.load(weights)
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.ascontiguousarray(value)))
        for name, value in outputs.items()
    ]
    declared = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in outputs.items()]
    model.graph.CopyFrom(helper.make_graph(nodes, NAME, list(model.graph.input), declared))
    return model
