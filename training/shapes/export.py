"""Write a checkpoint as model.onnx and model.yaml: python -m training.shapes.export CHECKPOINT FOLDER."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import yaml

from maskmill.deploy.demo.outlines import CLASSES
from training.shapes.net import SIZE, Exported, ShapesNet

THRESHOLD, NMS_IOU = 0.3, 0.7


def export(checkpoint: Path, folder: Path) -> float:
    """Write the averaged network into the folder and return the largest difference of ONNX Runtime from PyTorch."""
    net = ShapesNet(len(CLASSES))
    net.load_state_dict(torch.load(checkpoint)["average"])
    module = Exported(net.eval()).eval()
    target = folder / "model.onnx"
    names = {"input_names": ["images"], "output_names": ["output0", "output1"]}
    axes = {name: {0: "batch"} for name in ("images", "output0", "output1")}
    sample = torch.zeros(1, 3, SIZE, SIZE)
    torch.onnx.export(module, (sample,), str(target), opset_version=17, dynamo=False, dynamic_axes=axes, **names)
    model = onnx.load(target)
    onnx.helper.set_model_props(model, _metadata())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)
    (folder / "model.yaml").write_text(yaml.safe_dump(_package(target), sort_keys=False))
    return _difference(module, target)


def _metadata() -> dict[str, str]:
    return {
        "description": "Maskmill shapes",
        "author": "Maskmill",
        "version": "1",
        "license": "Apache-2.0",
        "stride": "32",
        "task": "segment",
        "head": "Segment",
        "batch": "1",
        "imgsz": str([SIZE, SIZE]),
        "names": str(dict(enumerate(CLASSES))),
        "args": str({"batch": 1, "nms": None, "dynamic": False}),
        "channels": "3",
        "end2end": "False",
    }


def _package(model: Path) -> dict[str, object]:
    return {
        "family": "yolo_seg",
        "input_size": [SIZE, SIZE],
        "normalisation": {
            "scale": 255.0,
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "channels": "RGB",
            "pad": 114,
        },
        "labels": list(CLASSES),
        "threshold": THRESHOLD,
        "nms_iou": NMS_IOU,
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
    }


def _difference(module: Exported, target: Path) -> float:
    images = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = module(images)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    got = session.run(None, {"images": images.numpy()})
    return max(float(np.abs(w.numpy() - g).max()) for w, g in zip(wanted, got, strict=True))


def main() -> None:
    """Export and print the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    print(f"largest difference from PyTorch: {export(options.checkpoint, options.folder):.2e}")


if __name__ == "__main__":
    main()
