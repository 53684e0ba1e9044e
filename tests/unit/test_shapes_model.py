"""The embedded model: it is what its package says, and it finds what the scenes show."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from maskmill.deploy.demo.scenes import CLASSES, draw_scene
from training.shapes.decode import Limits, decode, letterbox

FOLDER = Path(__file__).resolve().parents[2] / "worker" / "models" / "shapes"
PICTURES = 24


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    """The model on the CPU."""
    return onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def package() -> dict[str, object]:
    """The model's description."""
    return dict(yaml.safe_load((FOLDER / "model.yaml").read_text()))


def test_the_package_names_the_file_beside_it(package: dict[str, object]) -> None:
    """The hash in model.yaml is that of model.onnx, and the file stays below 4 MB."""
    content = (FOLDER / "model.onnx").read_bytes()
    assert package["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(content) < 4_000_000


def test_package_metadata_and_scenes_share_their_labels(
    package: dict[str, object], session: onnxruntime.InferenceSession
) -> None:
    """The labels of model.yaml, of the ONNX metadata and of the drawn scenes are the same, in the same order."""
    metadata = session.get_modelmeta().custom_metadata_map
    assert package["labels"] == list(CLASSES)
    assert ast.literal_eval(metadata["names"]) == dict(enumerate(CLASSES))
    assert ast.literal_eval(metadata["imgsz"]) == package["input_size"]


def test_a_picture_alone_and_in_a_batch_gives_the_same_numbers(session: onnxruntime.InferenceSession) -> None:
    """The batch axis is free, and what else is in the batch changes nothing that matters."""
    images = np.stack([prepared(seed) for seed in (1, 2, 3)])
    together = session.run(None, {"images": images})
    alone = session.run(None, {"images": images[1:2]})
    for whole, single in zip(together, alone, strict=True):
        assert np.allclose(whole[1:2], single, atol=1e-2)


def test_most_shapes_are_found_with_their_class_and_mask(session: onnxruntime.InferenceSession) -> None:
    """At the package's default threshold eight of ten shapes have a finding of their class with mask IoU above 0.75."""
    hits = [hit for seed in range(PICTURES) for hit in found(session, seed)]
    assert len(hits) >= 100
    assert np.mean(hits) >= 0.8


def prepared(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The network input of a scene of 400x320."""
    square, _ = letterbox(draw_scene(seed, 400, 320).image, 256)
    return np.ascontiguousarray(square.transpose(2, 0, 1), np.float32) / np.float32(255)


def found(session: onnxruntime.InferenceSession, seed: int) -> list[bool]:
    """For each shape of the scene, whether the model finds it."""
    scene = draw_scene(seed, 400, 320)
    _, box = letterbox(scene.image, 256)
    output, prototypes = session.run(None, {"images": prepared(seed)[None]})
    result = decode(output[0], prototypes[0], box, scene.image.shape[:2], Limits(score=0.3))
    return [
        any(
            guess_class == class_id and (guess & mask).sum() > 0.75 * (guess | mask).sum()
            for guess, guess_class in zip(result.masks, result.class_ids, strict=True)
        )
        for mask, class_id in zip(scene.masks, scene.class_ids, strict=True)
    ]
