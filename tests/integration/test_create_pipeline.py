"""create_pipeline is used as PaddleX's is used, and one bad input harms no other."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image as Pillow
from pycocotools import mask as coco

from maskmill import create_pipeline
from maskmill.shared.errors import CannotStart, DeviceUnavailable, InputError, InvalidRequest, ModelInvalid
from maskmill.worker.predict.create_pipeline import InstanceSegmentation
from maskmill.worker.predict.results import Result
from tests.onnx_models import head_of, write_package
from tests.services import FileServer

# pycocotools 2.0.11 decodes through an array protocol of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Each score is multiplied by the picture's mean value: white keeps it, grey halves it.
FOUND = (((8, 8, 40, 40), 1, 0.9), ((4, 50, 60, 60), 0, 0.6))
PROGRAM = """
from maskmill import create_pipeline

pipeline = create_pipeline(pipeline="instance_segmentation")
output = pipeline.predict(input="demo.png", threshold=0.5)
for res in output:
    res.print()
    res.save_to_img(save_path="./output/")
    res.save_to_json(save_path="./output/")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("models") / "mine", head_of(*FOUND))


@pytest.fixture(scope="module")
def pipeline(model: Path) -> Iterator[InstanceSegmentation]:
    with create_pipeline(model=model, device="cpu") as pipeline:
        yield pipeline


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frame(value: int = 255, height: int = 64, width: int = 64) -> Any:
    return np.full((height, width, 3), value, np.uint8)


def save(path: Path, pixels: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels).save(path)
    return str(path)


def test_a_program_written_for_paddlex_runs_with_its_import_changed(model: Path, folder: Path) -> None:
    save(folder / "demo.png", frame())
    env = {**os.environ, "MASKMILL_MODELS": str(model)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True)
    shown = json.loads(done.stdout)["res"]
    saved = json.loads((folder / "output/demo_res.json").read_text())
    assert shown == saved | {"masks": "..."}
    assert list(saved)[:4] == ["input_path", "page_index", "boxes", "masks"]
    assert (saved["input_path"], saved["page_index"]) == ("demo.png", None)
    assert [(box["cls_id"], box["label"]) for box in saved["boxes"]] == [(1, "box"), (0, "disc")]
    with Pillow.open(folder / "output/demo_res.png") as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (64, 64))


def test_results_come_in_the_order_of_mixed_inputs(
    pipeline: InstanceSegmentation, folder: Path, file_server: FileServer
) -> None:
    inside = [save(folder / f"many/{name}.png", frame()) for name in ("a", "b/c")]
    single = save(folder / "x.jpg", frame())
    (folder / "scan.pdf").write_bytes(two_pages())
    gone = file_server.url("/none.png")
    given: list[Any] = [frame(), "many", gone, frame(128), single, Path("scan.pdf")]
    results = list(pipeline.predict(given, threshold=0.4))
    paths = [None, *(os.path.relpath(path, folder) for path in inside), gone, None, single, "scan.pdf", "scan.pdf"]
    assert [result["input_path"] for result in results] == paths
    assert [result["page_index"] for result in results] == [None] * 6 + [0, 1]
    assert [len(result["boxes"]) for result in results[:6]] == [2, 2, 2, 0, 1, 2]
    assert [bool(result.error) for result in results] == [False] * 3 + [True] + [False] * 4


def test_inputs_are_read_as_results_are_asked_for(pipeline: InstanceSegmentation, folder: Path) -> None:
    paths = [save(folder / f"{number}.png", frame()) for number in range(150)]
    results = pipeline.predict(paths)
    next(results)
    Path(paths[-1]).unlink()
    *most, last = results
    assert [result.error for result in most] == [None] * 148
    assert last.error


def test_a_frame_and_the_file_of_it_give_equal_results(pipeline: InstanceSegmentation, folder: Path) -> None:
    rgb = np.zeros((48, 96, 3), np.uint8)
    rgb[:, :48], rgb[:, 48:] = (250, 120, 10), (200, 255, 90)
    path = save(folder / "two.png", rgb)
    from_file, from_frame = pipeline.predict([path, rgb[..., ::-1]], threshold=0.1)
    assert from_frame["boxes"] == from_file["boxes"]
    assert from_frame["masks"] == from_file["masks"]
    assert from_frame.img["res"].tobytes() == from_file.img["res"].tobytes()


def test_grey_frames_and_frames_with_alpha_are_read(pipeline: InstanceSegmentation) -> None:
    frames = [frame()[:, :, 0], cv2.cvtColor(frame(), cv2.COLOR_BGR2BGRA)]
    assert [len(result["boxes"]) for result in pipeline.predict(frames)] == [2, 2]


@pytest.mark.parametrize("wrong", [frame().astype(np.float32), frame()[..., :2], frame()[:0], np.zeros(5, np.uint8)])
def test_an_array_that_is_no_picture_fails_alone(pipeline: InstanceSegmentation, wrong: Any) -> None:
    bad, good = pipeline.predict([wrong, frame()])
    assert bad.error
    assert str(list(wrong.shape)) in bad.error["reason"]
    assert good.error is None


@pytest.mark.parametrize("given", ["caf\udce9.png", "a" * 5000, "http://" + "a" * 9000])
def test_a_name_that_can_lead_nowhere_fails_alone(pipeline: InstanceSegmentation, folder: Path, given: str) -> None:
    before, bad, after = pipeline.predict([frame(), given, frame()])
    assert (before.error, after.error) == (None, None)
    assert bad.error
    assert bad.error["code"] == "input_not_found"
    bad.save_to_json(folder)


def test_an_input_that_fails_carries_its_error_and_can_be_used_like_any_other(
    pipeline: InstanceSegmentation, folder: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.png").write_bytes(b"no picture")
    bad, missing, good = pipeline.predict(["bad.png", "none.png", frame()])
    assert bad.error
    assert bad.error["code"] == "unsupported_format"
    assert missing.error
    assert missing.error["code"] == "input_not_found"
    assert len(good["boxes"]) == 2
    bad.print()
    assert json.loads(capsys.readouterr().out)["res"]["error"] == bad.error
    with caplog.at_level(logging.WARNING):
        bad.save_to_img("out")
    assert "bad.png: this" in caplog.text
    bad.save_to_json("out")
    assert json.loads((folder / "out/bad_res.json").read_text()) == bad.json["res"]
    assert (bad["boxes"], bad["masks"], bad.img) == ([], [], {})


def test_an_input_that_fails_is_raised_if_that_is_wanted(model: Path, folder: Path) -> None:
    with create_pipeline(model=model, device="cpu", on_error="raise") as pipeline:
        results = pipeline.predict([frame(), str(folder / "none.png")])
        assert len(next(results)["boxes"]) == 2
        with pytest.raises(InputError, match=r"^\S+none\.png: No such file or directory$"):
            next(results)


def test_masks_are_cocos_rle_of_the_whole_picture_or_the_boxes_crops(
    pipeline: InstanceSegmentation, model: Path, folder: Path
) -> None:
    [rle] = pipeline.predict(frame())
    with create_pipeline(model=model, device="cpu", mask_format="dense") as dense_pipeline:
        [dense] = dense_pipeline.predict(frame())
    for box, counts, crop in zip(rle["boxes"], rle["masks"], dense["masks"], strict=True):
        x1, y1, x2, y2 = map(round, box["coordinate"])
        assert (crop.dtype, crop.shape) == (np.dtype(np.uint8), (y2 - y1, x2 - x1))
        np.testing.assert_array_equal(crop, coco.decode(counts)[y1:y2, x1:x2])
    dense.save_to_json("dense.json")
    assert json.loads((folder / "dense.json").read_text())["masks"][0] == dense["masks"][0].tolist()
    assert dense.json["res"]["masks"][1] == dense["masks"][1].tolist()


def test_files_are_named_as_paddlex_names_them_and_none_replaces_another(
    pipeline: InstanceSegmentation, folder: Path
) -> None:
    paths = [save(folder / name, frame()) for name in ("My Pic.v2.JPEG", "a/x.bmp", "b/x.webp", "b/y.gif")]
    (folder / "scan.pdf").write_bytes(two_pages())
    for result in pipeline.predict([*paths, "scan.pdf", frame()]):
        result.save_to_img("out")
        result.save_to_json("out")
    names = sorted(path.name for path in (folder / "out").iterdir() if not path.name[0].isdigit())
    expected = ["My Pic.v2_res.JPEG", "scan_0_res.png", "scan_1_res.png", "x-2_res.webp", "x_res.bmp", "y_res.png"]
    expected += [f"{stem}_res.json" for stem in ("My Pic.v2", "scan_0", "scan_1", "x-2", "x", "y")]
    assert names == sorted(expected)
    own = sorted(path.name for path in (folder / "out").iterdir() if path.name[0].isdigit())
    assert [name.partition("_res")[2] for name in own] == [".json", ".png"]
    assert len({name.partition("_res")[0] for name in own}) == 1


def test_results_can_be_saved_under_names_of_ones_own(pipeline: InstanceSegmentation, folder: Path) -> None:
    [result] = pipeline.predict(save(folder / "a.png", frame()))
    result.save_to_img("new/one.jpg")
    result.save_to_json("new/two.json", indent=None, ensure_ascii=True)
    result.save_to_img("new/one.gif")
    for name, form in (("one.jpg", "JPEG"), ("one.gif", "GIF")):
        with Pillow.open(folder / "new" / name) as drawn:
            assert (drawn.format, drawn.size) == (form, (64, 64))
    assert "\n" not in (folder / "new/two.json").read_text()


def test_all_is_saved_at_once(pipeline: InstanceSegmentation, folder: Path) -> None:
    [result] = pipeline.predict(save(folder / "a.png", frame()))
    result.save_all("out")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a_res.json", "a_res.png"]


@pytest.mark.parametrize("save", [Result.save_to_img, Result.save_to_json, Result.save_all])
def test_saving_to_nowhere_says_what_is_missing(
    pipeline: InstanceSegmentation, folder: Path, save: Callable[[Result], None]
) -> None:
    [result] = pipeline.predict(frame())
    with pytest.raises(InvalidRequest, match=r"name a folder or a file, as in save_path='output'"):
        save(result)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("save", [Result.save_to_img, Result.save_to_json])
@pytest.mark.parametrize(
    ("path", "said"),
    [("/dev/null/out", "/dev/null/out: Not a directory"), ("taken", r"taken/\S+_res\.\w+: Is a directory")],
)
def test_a_folder_that_cannot_be_written_to_is_named(
    pipeline: InstanceSegmentation, folder: Path, save: Callable[[Result, str], None], path: str, said: str
) -> None:
    [result] = pipeline.predict(frame())
    for suffix in ("json", "png"):
        (folder / "taken" / f"{result.name}_res.{suffix}").mkdir(parents=True)
    with pytest.raises(CannotStart, match=f"^cannot write to {said}$"):
        save(result, path)


@pytest.mark.parametrize("name", ["a.svg", "a.heic", "a.psd"])
def test_a_picture_of_a_kind_that_is_not_written_is_refused(
    pipeline: InstanceSegmentation, folder: Path, name: str
) -> None:
    [result] = pipeline.predict(frame())
    with pytest.raises(InvalidRequest, match=rf"{name}: no picture is written as .*\.jpg"):
        result.save_to_img(name)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("word", ["format_json", "json_format"])
def test_print_can_be_one_line_of_python(
    pipeline: InstanceSegmentation, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    [result] = pipeline.predict(frame())
    result.print(**{word: False})
    assert capsys.readouterr().out.startswith("{'res': {'input_path': None, 'page_index': None, 'boxes': [{'cls_id': 1")
    result.print(**{word: True})
    assert len(json.loads(capsys.readouterr().out)["res"]["boxes"]) == 2


def test_pictures_are_not_drawn_where_they_are_not_wanted(pipeline: InstanceSegmentation, folder: Path) -> None:
    [result] = pipeline.predict(frame(), pictures=False)
    result.save_to_img("out")
    assert result.img == {}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("as_file", [False, True])
def test_a_configuration_names_model_batch_size_and_threshold(model: Path, folder: Path, as_file: bool) -> None:
    module = {"module_name": "instance_segmentation", "model_name": "Mask-RT-DETR-S", "model_dir": str(model)}
    module |= {"batch_size": 2, "threshold": 0.7}  # type: ignore[dict-item]
    config: Any = {"pipeline_name": "instance_segmentation", "SubModules": {"InstanceSegmentation": module}}
    if as_file:
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        config = "config.yaml"
    with create_pipeline(config=config, device="cpu") as pipeline:
        assert [len(result["boxes"]) for result in pipeline.predict([frame()])] == [1]
        assert [len(result["boxes"]) for result in pipeline.predict([frame()], threshold=0.3)] == [2]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"pipeline": "object_detection"}, "instance_segmentation"),
        ({"pipeline": "none.yaml"}, "none.yaml"),
        ({"pipeline": None}, "instance_segmentation"),
        ({"config": {"pipeline_name": "OCR"}}, "pipeline_name: .*OCR"),
        ({"config": {"Pipeline": {"model": "MaskRCNN-ResNet50"}}}, "SubModules is missing"),
        ({"config": {"SubModules": {"ObjectDetection": {}}}}, "SubModules.InstanceSegmentation is missing"),
        ({"config": {"SubModules": {"InstanceSegmentation": None}}}, "InstanceSegmentation: Input should be a mapping"),
        ({"config": {"SubModules": {"InstanceSegmentation": {"batch_size": 0}}}}, "batch_size"),
        (
            {"config": {"SubModules": {"InstanceSegmentation": {"threshold": 1.5}}}},
            "threshold must lie between 0 and 1",
        ),
        ({"config": {"SubModules": {"InstanceSegmentation": {"threshold": {0: 0.5}}}}}, "valid number, got {0: 0.5}"),
        ({"mask_format": "png"}, "dense"),
        ({"on_error": "ignore"}, "raise"),
        ({"device": "tpu:0"}, "xpu:0"),
    ],
)
def test_what_cannot_be_configured_is_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        create_pipeline(**arguments)


@pytest.mark.parametrize("device", ["npu:0", "xpu:0", "mlu:0", "dcu:0", "gcu:0"])
def test_a_device_that_nothing_here_serves_is_refused_with_those_that_are(model: Path, device: str) -> None:
    with pytest.raises(DeviceUnavailable, match=rf"^{device}: .*Available here: cpu"):
        create_pipeline(model=model, device=device)


def test_what_chooses_an_engine_in_paddlex_is_passed_over_and_said_where_it_asks_for_something(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    create_pipeline(model=model, device="cpu", use_hpip=False, hpi_config=None, engine=None).close()
    assert caplog.text == ""
    create_pipeline(model=model, device="cpu", use_hpip=True).close()
    assert "use_hpip=True is passed over" in caplog.text
    with pytest.raises(TypeError, match="mask_from"):
        create_pipeline(model=model, device="cpu", mask_from="dense")


def test_predict_takes_the_pipelines_own_device_and_no_other(pipeline: InstanceSegmentation) -> None:
    for device in (None, "cpu", "CPU"):
        assert len(list(pipeline.predict(frame(), device=device))) == 1
    with pytest.raises(InvalidRequest, match=r"is on cpu; .*create_pipeline\(device='gpu:0'\)"):
        pipeline.predict(frame(), device="gpu:0")


def test_without_a_model_it_is_said_which_one_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, model: Path
) -> None:
    monkeypatch.delenv("MASKMILL_MODELS", raising=False)
    create_pipeline(device="cpu").close()
    assert "shapes runs, which finds drawn shapes only" in caplog.text
    caplog.clear()
    create_pipeline(model=model, device="cpu").close()
    assert caplog.text == ""


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelInvalid, match=r"Mask-RT-DETR-S.* `models add --paddlex DIR`"):
        create_pipeline(config={"SubModules": {"InstanceSegmentation": {"model_name": "Mask-RT-DETR-S"}}}, device="cpu")


@pytest.mark.parametrize("wrong", [None, 5, "", [["nested"]], "nul\0"])
def test_what_is_no_input_is_refused_at_once(pipeline: InstanceSegmentation, wrong: Any) -> None:
    with pytest.raises(InvalidRequest, match="an input is"):
        pipeline.predict(wrong)


@pytest.mark.parametrize("threshold", [0, 1, 1.5, -0.1, float("nan"), "high"])
def test_a_threshold_outside_its_range_is_refused_at_once(pipeline: InstanceSegmentation, threshold: Any) -> None:
    with pytest.raises(InvalidRequest, match="between 0 and 1"):
        pipeline.predict(frame(), threshold=threshold)


def test_a_closed_pipeline_says_so(model: Path) -> None:
    pipeline = create_pipeline(model=model, device="cpu")
    results = pipeline.predict([frame()] * 3)
    next(results)
    pipeline.close()
    with pytest.raises(InvalidRequest, match="closed"):
        next(results)


def two_pages() -> bytes:
    page = Pillow.new("RGB", (64, 64), "white")
    out = io.BytesIO()
    page.save(out, "PDF", save_all=True, append_images=[page])
    return out.getvalue()
