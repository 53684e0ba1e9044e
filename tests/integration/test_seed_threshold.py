"""Without a threshold the seed's words mean the seed's 0.5, PaddleX's models keep their own, and so does every job."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image as Pillow

from maskmill import create_pipeline
from maskmill.client.client import Client
from tests.onnx_models import head_of, write_package
from tests.paddlex_models import write_answering, write_config
from tests.services.commands import maskmill, run_up


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of its own threshold, 0.25, that finds one thing above 0.5 and one below."""
    head = head_of(((8, 8, 30, 30), 1, 0.9), ((34, 34, 60, 60), 0, 0.4))
    return write_package(tmp_path_factory.mktemp("models") / "mine", head, threshold=0.25)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "white.png"
    Pillow.new("RGB", (64, 64), "white").save(path)
    return path


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_a_pipeline_keeps_what_scores_above_one_half(model: Path, picture: Path, device: str) -> None:
    with create_pipeline(model=model, device=device) as pipeline:
        [default] = pipeline.predict(str(picture))
        [low] = pipeline.predict(str(picture), threshold=0.3)
    assert (len(default["boxes"]), default["threshold"]) == (1, 0.5)
    assert (len(low["boxes"]), low["threshold"]) == (2, 0.3)


@pytest.mark.parametrize("words", [["--input"], []])
def test_the_command_has_one_threshold_whichever_words_are_used(model: Path, picture: Path, words: list[str]) -> None:
    done = maskmill("predict", *words, picture, "--model", model, "--device", "cpu", "--json")
    assert json.loads(done.stdout)["threshold"] == 0.5
    assert len(json.loads(done.stdout)["boxes"]) == 1


def test_a_paddlex_model_keeps_its_draw_threshold(tmp_path: Path, picture: Path) -> None:
    boxes = np.array([[1, 0.45, 8, 8, 30, 30], [0, 0.35, 34, 34, 60, 60]], np.float32)
    masks = np.ones((2, 64, 64), np.int32)
    write_answering(tmp_path / "paddlex", [boxes, np.array([2], np.int32), masks], sides=(640, 640))
    with create_pipeline(model=write_config(tmp_path / "paddlex", draw_threshold=0.4), device="cpu") as pipeline:
        [result] = pipeline.predict(str(picture))
    assert (len(result["boxes"]), result["threshold"]) == (1, 0.4)


def test_the_endpoint_has_the_seeds_and_a_job_the_models_own(model: Path, picture: Path) -> None:
    with run_up("--models", model) as up:
        body = {"image": base64.b64encode(picture.read_bytes()).decode()}
        answer = requests.post(f"{up.url}/instance-segmentation", json=body, timeout=60).json()
        client = Client(up.url)
        job = client.wait(client.submit([picture]).id)
        [item] = client.items(job.id)
    assert (len(answer["result"]["instances"]), item["instances"]) == (1, 2)


def test_a_real_model_finds_what_the_seed_would_show(test_data: Path) -> None:
    path = test_data / "coco/val79/images/000000397133.jpg"
    with create_pipeline(model=test_data / "weights/yolo11n-seg.onnx", device="cpu") as pipeline:
        [default] = pipeline.predict(str(path), pictures=False)
        [low] = pipeline.predict(str(path), threshold=0.25, pictures=False)
    assert (len(default["boxes"]), len(low["boxes"])) == (6, 13)
