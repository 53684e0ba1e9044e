"""`maskmill predict` takes the words of PaddleX's command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow

from maskmill.shared.embedded_model import EVERYDAY
from maskmill.worker.models.library.catalogue import catalogue
from tests.onnx_models import head_of, write_package
from tests.services.commands import maskmill

SOME_FAILED, WRONG, CANNOT_START = 1, 2, 78


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


def test_paddlexs_files_lie_side_by_side_and_none_replaces_another(model: Path, picture: Path, tmp_path: Path) -> None:
    for name in ("in/a/x.png", "in/b/x.png", "in/ünï 日本.png", "y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, tmp_path / name)
    words = ["--input", tmp_path / "in", "--input", tmp_path / "y.png", "--device", "cpu", "--model", model]
    assert maskmill("predict", *words, "--save_path", tmp_path / "side").returncode == 0
    assert maskmill("predict", *words, "--out", tmp_path / "tree").returncode == 0
    stems = {"x", "x-2", "ünï 日本", "y"}
    names = {f"{stem}_res{suffix}" for stem in stems for suffix in (".json", ".png")}
    assert {path.name for path in (tmp_path / "side").iterdir()} == names
    drawn = {str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*.jpg")}
    assert drawn == {"in/a/x.png_res.jpg", "in/b/x.png_res.jpg", "in/ünï 日本.png_res.jpg", "y.png_res.jpg"}


def test_the_masks_are_dense_if_that_is_wanted(model: Path, picture: Path) -> None:
    words = ["predict", picture, "--model", model, "--device", "cpu", "--json"]
    [rle], [dense] = (json.loads(maskmill(*words, *more).stdout)["masks"] for more in ([], ["--mask-format", "dense"]))
    assert list(rle) == ["size", "counts"]
    assert np.shape(dense) == (32, 32)


@pytest.mark.parametrize("option", ["--save_path", "--out"])
def test_a_folder_that_cannot_be_written_to_ends_with_78_before_any_work(
    model: Path, picture: Path, option: str
) -> None:
    done = maskmill("predict", picture, "--model", model, "--device", "cpu", option, "/dev/null/results")
    assert (done.returncode, done.stdout) == (CANNOT_START, "")
    assert done.stderr == "Error: cannot write to /dev/null/results: Not a directory\n"


def test_a_file_that_cannot_be_written_ends_with_78_and_its_name(model: Path, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "demo_res.json").mkdir()
    done = maskmill("predict", picture, "--model", model, "--device", "cpu", "--save_path", tmp_path)
    assert done.returncode == CANNOT_START
    assert done.stderr == f"Error: cannot write to {tmp_path}/demo_res.json: Is a directory\n"


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("", SOME_FAILED, "'': String should have at least 1 character"),
        ("ftp://example.org/a.jpg", SOME_FAILED, "only http:// and https:// are fetched"),
        ("none.png", SOME_FAILED, "none.png: No such file or directory"),
        (".", SOME_FAILED, ". holds no image and no PDF"),
        ("http://" + "a" * 9000, SOME_FAILED, "8192"),
    ],
)
def test_an_input_that_is_none_is_named_once_and_without_a_traceback(
    model: Path, tmp_path: Path, given: str, code: int, said: str
) -> None:
    done = maskmill("predict", "--input", given, "--model", model, "--device", "cpu", folder=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count(given[:60] or "''") == 1


def test_pages_are_chosen_and_rendered_as_in_a_job(model: Path, tmp_path: Path) -> None:
    pages = [Pillow.new("RGB", (72, 72), "white") for _ in range(4)]
    pages[0].save(tmp_path / "scan.pdf", save_all=True, append_images=pages[1:], resolution=72)
    words = ["predict", tmp_path / "scan.pdf", "--model", model, "--device", "cpu", "--json"]
    done = maskmill(*words, "--pages", "2-3", "--dpi", "36")
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(found["page_index"], found["width"]) for found in documents] == [(1, 36), (2, 36)]


def test_a_password_opens_a_pdf(model: Path, test_data: Path) -> None:
    name, secret = encrypted(test_data)
    assert maskmill("predict", name, "--model", model, "--device", "cpu").returncode == SOME_FAILED
    assert maskmill("predict", name, "--password", secret, "--model", model, "--device", "cpu").returncode == 0


def test_overlap_and_files_are_chosen_as_in_a_job(picture: Path, tmp_path: Path) -> None:
    twice = head_of(((8, 8, 40, 40), 1, 0.9), ((8, 8, 40, 34), 1, 0.8))
    words = ["predict", picture, "--model", write_package(tmp_path / "two", twice), "--device", "cpu", "--json"]
    found = [json.loads(maskmill(*words, *more).stdout)["boxes"] for more in ([], ["--nms-iou", "0.9"])]
    assert [len(boxes) for boxes in found] == [1, 2]
    for flag, suffixes in (("--no-json", {".png"}), ("--no-image", {".json"})):
        done = maskmill(*words, "--out", tmp_path / flag, flag, "--image-format", "input")
        assert {path.suffix for path in (tmp_path / flag).iterdir()} == suffixes
        assert json.loads(done.stdout)["boxes"]


def test_who_names_no_model_is_told_what_the_embedded_one_is_for(picture: Path) -> None:
    done = maskmill("predict", picture, "--device", "cpu")
    assert (done.returncode, done.stdout) == (0, f"{picture}: 0 instances\n")
    assert done.stderr.splitlines()[-1] == (
        "The embedded model shapes finds drawn shapes only; for everyday objects: "
        "maskmill models pull maskrcnn-12-int8, then maskmill predict --model maskrcnn-12-int8"
    )
    assert maskmill("predict", picture, "--device", "cpu", "--model", "shapes").stderr == ""


def test_the_model_that_is_told_of_can_be_pulled() -> None:
    assert EVERYDAY in catalogue(None)


def encrypted(test_data: Path) -> tuple[Path, str]:
    """A PDF of the corpus that a password opens, and its password."""
    listed = json.loads((test_data / "corpus/manifest.json").read_text())
    entry = next(one for one in listed if one.get("password"))
    return test_data / "corpus" / entry["file"], entry["password"]


def test_another_pipeline_is_refused(picture: Path) -> None:
    done = maskmill("predict", picture, "--pipeline", "object_detection")
    assert done.returncode == WRONG
    assert "instance_segmentation" in done.stderr
