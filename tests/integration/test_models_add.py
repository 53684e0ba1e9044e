"""`models add --paddlex` takes a PaddleX directory in, or says why it cannot, and leaves nothing half done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.paddlex_models import write_answering, write_config
from tests.services.commands import CLEAN, MASKMILL, run_limited

ANSWER = (
    np.array([[0, 0.9, 0, 0, 9, 9]], np.float32),
    np.array([1], np.int32),
    np.ones((1, 20, 30), np.int32),
)
# Stands for the converter: it checks that what it is told to read is there, and writes what was converted beforehand.
CONVERTER = """#!{python}
import pathlib, shutil, sys
told = dict(zip(sys.argv[1::2], sys.argv[2::2]))
source = pathlib.Path(told["--model_dir"])
assert (source / told["--model_filename"]).is_file() and (source / told["--params_filename"]).is_file()
assert told["--opset_version"] == "16" and told["--optimize_tool"] == "None"
if not (source / "converted.onnx").is_file():
    sys.exit("Error: an operator is not supported")
shutil.copyfile(source / "converted.onnx", told["--save_file"])
"""


def add(
    models: Path, *words: str | Path, tools: Path | None = None, kibibytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """The command, with the models folder `models` and the programs of the folder `tools` on PATH.

    No file that it writes may become larger than so many `kibibytes`.
    """
    path = os.pathsep.join(filter(None, (str(tools or ""), "/usr/bin", "/bin")))
    env = CLEAN | {"MASKMILL_MODELS_DIR": str(models), "PATH": path}
    command = [*MASKMILL, "models", *map(str, words)]
    return run_limited(command, env, kibibytes)


def paddle_format(folder: Path, graph: str = "inference.json", **config: Any) -> Path:
    """A directory in Paddle's own format; it holds what the converter will make of it."""
    write_config(folder, **config)
    (folder / graph).write_text("{}", encoding="utf-8")
    (folder / "inference.pdiparams").write_bytes(b"weights")
    write_answering(folder, ANSWER)
    (folder / "inference.onnx").rename(folder / "converted.onnx")
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    converter = folder / "paddle2onnx"
    converter.write_text(CONVERTER.format(python=sys.executable), encoding="utf-8")
    converter.chmod(0o755)
    return folder


def test_a_directory_with_an_onnx_file_is_taken_as_it_stands_under_its_own_name(tmp_path: Path) -> None:
    source = write_config(write_answering(tmp_path / "inference", ANSWER))
    added = add(tmp_path / "models", "add", "--paddlex", source)
    assert added.returncode == 0, added.stderr
    folder = tmp_path / "models" / "Mask-RT-DETR-S"
    assert added.stdout.strip() == str(folder)
    assert {path.name for path in folder.iterdir()} == {"inference.onnx", "inference.yml"}
    assert "paddlex" in add(tmp_path / "models", "check", "Mask-RT-DETR-S", "--device", "cpu").stdout


@pytest.mark.parametrize("graph", ["inference.json", "inference.pdmodel"])
def test_a_directory_in_paddles_format_is_converted(tmp_path: Path, tools: Path, graph: str) -> None:
    source = paddle_format(tmp_path / "source", graph)
    added = add(tmp_path / "models", "add", "--paddlex", source, "--name", "mine", tools=tools)
    assert added.returncode == 0, added.stderr
    assert {path.name for path in (tmp_path / "models/mine").iterdir()} == {"inference.onnx", "inference.yml"}


def without_weights(source: Path) -> None:
    (source / "inference.pdiparams").unlink()


def without_config(source: Path) -> None:
    (source / "inference.yml").unlink()


def not_convertible(source: Path) -> None:
    (source / "converted.onnx").unlink()


def not_runnable(source: Path) -> None:
    (source / "converted.onnx").write_bytes(b"no graph")


def of_rcnn(source: Path) -> None:
    write_config(source, arch="RCNN")


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (without_weights, "expected inference.onnx, or inference.json or inference.pdmodel with inference.pdiparams"),
        (without_config, "inference.yml: needed of a PaddleX model"),
        (not_convertible, "did not convert it: Error: an operator is not supported"),
        (not_runnable, "source/inference.onnx): no ONNX file, or one that was cut off"),
        (of_rcnn, "no released paddle2onnx converts arch RCNN (Mask R-CNN, Cascade Mask R-CNN)"),
    ],
)
def test_what_cannot_be_added_is_one_line_and_leaves_nothing(
    tmp_path: Path, tools: Path, harm: Any, expected: str
) -> None:
    source = paddle_format(tmp_path / "source")
    harm(source)
    added = add(tmp_path / "models", "add", "--paddlex", source, tools=tools)
    assert added.returncode == 78
    assert expected in added.stderr
    assert added.stderr.count("\n") == 1
    assert not list((tmp_path / "models").iterdir() if (tmp_path / "models").exists() else ())


@pytest.mark.skipif(shutil.which("paddle2onnx", path=str(Path(sys.executable).parent)) is not None, reason="it is here")
def test_without_a_converter_the_line_says_what_to_install(tmp_path: Path) -> None:
    added = add(tmp_path / "models", "add", "--paddlex", paddle_format(tmp_path / "source"))
    assert added.returncode == 78
    assert "pip install paddle2onnx==" in added.stderr


def test_a_converter_that_does_not_run_is_one_line(tmp_path: Path, tools: Path) -> None:
    (tools / "paddle2onnx").write_bytes(b"no program")
    added = add(tmp_path / "models", "add", "--paddlex", paddle_format(tmp_path / "source"), tools=tools)
    assert (added.returncode, added.stderr.count("\n")) == (78, 1)
    assert "paddle2onnx does not run: Exec format error" in added.stderr
    assert not list((tmp_path / "models").iterdir())


def test_a_models_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("no folder")
    added = add(tmp_path / "models", "add", "--paddlex", write_config(write_answering(tmp_path / "source", ANSWER)))
    assert (added.returncode, added.stderr.count("\n")) == (78, 1)
    assert f"{tmp_path / 'models'}: File exists; MASKMILL_MODELS_DIR names another place" in added.stderr


def test_a_disk_that_does_not_take_the_model_is_said_and_keeps_nothing(tmp_path: Path) -> None:
    large = (*ANSWER[:2], np.ones((1, 600, 800), np.int32))
    source = write_config(write_answering(tmp_path / "source", large))
    added = add(tmp_path / "models", "add", "--paddlex", source, kibibytes=100)
    assert (added.returncode, added.stderr.count("\n")) == (78, 1)
    assert "File too large; MASKMILL_MODELS_DIR names another place" in added.stderr
    assert not list((tmp_path / "models").iterdir())


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    source = write_config(write_answering(tmp_path / "source", ANSWER))
    assert add(tmp_path / "models", "add", "--paddlex", source).returncode == 0
    again = add(tmp_path / "models", "add", "--paddlex", source)
    assert again.returncode == 2
    assert "is there already" in again.stderr


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "..", ".hidden"])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    source = write_config(write_answering(tmp_path / "source", ANSWER))
    assert "expected one name" in add(tmp_path / "models", "add", "--paddlex", source, "--name", name).stderr


def test_a_directory_in_paddles_format_used_as_a_model_says_how_to_add_it(tmp_path: Path) -> None:
    source = paddle_format(tmp_path / "source")
    checked = add(tmp_path / "models", "check", source, "--device", "cpu")
    assert f"maskmill models add --paddlex {source}" in checked.stderr
