"""`maskmill predict` takes the words of PaddleX's command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow

from tests.onnx_models import head_of, write_package
from tests.services.commands import maskmill

WRONG, CANNOT_START = 2, 78


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("models") / "mine", head_of(((8, 8, 40, 40), 1, 0.9)))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "demo.png"
    Pillow.fromarray(np.full((64, 64, 3), 255, np.uint8)).save(path)
    return path


def write_config(folder: Path, **module: object) -> Path:
    path = folder / "config.yaml"
    content = {"pipeline_name": "instance_segmentation", "SubModules": {"InstanceSegmentation": module}}
    path.write_text(yaml.safe_dump(content))
    return path


def test_paddlexs_words_give_paddlexs_files(model: Path, picture: Path, tmp_path: Path) -> None:
    words = ["--pipeline", "instance_segmentation", "--input", picture, "--device", "cpu", "--threshold", "0.5"]
    done = maskmill("predict", *words, "--save_path", tmp_path, "--model", model)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo_res.json", "demo_res.png"]
    assert len(json.loads((tmp_path / "demo_res.json").read_text())["boxes"]) == 1


@pytest.mark.parametrize(("threshold", "found"), [(0.5, 1), (0.95, 0)])
def test_a_configuration_names_the_model_and_the_threshold(
    model: Path, picture: Path, tmp_path: Path, threshold: float, found: int
) -> None:
    config = write_config(tmp_path, model_dir=str(model), threshold=threshold)
    done = maskmill("predict", "--pipeline", config, "--input", picture, "--device", "cpu", "--json")
    assert len(json.loads(done.stdout)["boxes"]) == found


def test_an_option_goes_before_the_configuration(model: Path, picture: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, model_dir=str(model), threshold=0.95)
    done = maskmill("predict", picture, "--pipeline", config, "--threshold", "0.5", "--device", "cpu", "--json")
    assert len(json.loads(done.stdout)["boxes"]) == 1


def test_a_device_that_nothing_here_serves_ends_with_78_and_those_that_are(model: Path, picture: Path) -> None:
    done = maskmill("predict", picture, "--model", model, "--device", "mlu:0")
    assert (done.returncode, done.stderr) == (
        CANNOT_START,
        "Error: mlu:0: no build of onnxruntime for mlu is known. Available here: cpu\n",
    )


def test_another_pipeline_is_refused(picture: Path) -> None:
    done = maskmill("predict", picture, "--pipeline", "object_detection")
    assert done.returncode == WRONG
    assert "instance_segmentation" in done.stderr
