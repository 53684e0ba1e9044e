"""A model is found by name, checked before its first picture, and answers each picture as if it were alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from maskmill.shared.errors import DeviceUnavailable, ModelError, ModelInvalid
from maskmill.shared.jobs.records import Options
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.models import Model, load
from maskmill.worker.models.engines.onnxruntime_engine import available
from tests.onnx_models import LABELS, SIZE, head_of, write_onnx, write_package

CPU = Device("cpu")
HEAD = head_of(((8, 8, 40, 32), 1, 0.8), ((30, 30, 60, 60), 0, 0.4))


def settings(models_dir: Path) -> Settings:
    return Settings(models_dir=models_dir, cpu_threads=1)


def grey(value: int, height: int = SIZE, width: int = SIZE) -> Image:
    return np.full((height, width, 3), value, np.uint8)


def run(model: Model, *images: Image) -> list[Instances]:
    prepared = [model.prepare(image) for image in images]
    outputs = model.infer(prepared)
    return [model.finish(one, fitted, 0.25) for one, fitted in zip(outputs, prepared, strict=True)]


def test_the_embedded_model_loads_without_any_folder(tmp_path: Path) -> None:
    model = load("shapes", CPU, settings(tmp_path))
    assert model.name == "shapes"
    assert model.family == "yolo_seg"
    assert len(model.labels) > 1


@pytest.mark.parametrize("place", ["directory", "file"])
def test_a_model_is_found_in_the_models_folder_by_its_bare_name(tmp_path: Path, place: str) -> None:
    if place == "directory":
        write_package(tmp_path / "mine", HEAD)
    else:
        write_onnx(tmp_path / "mine.onnx", HEAD, metadata={"task": "segment", "names": "{1: 'box', 0: 'disc'}"})
    model = load("mine", CPU, settings(tmp_path))
    assert (model.name, model.labels, model.input_size) == ("mine", LABELS, (SIZE, SIZE))


def test_a_model_is_found_by_its_path_and_named_by_its_last_part(tmp_path: Path) -> None:
    folder = write_package(tmp_path / "elsewhere" / "mine", HEAD)
    model = load(str(folder), CPU, settings(tmp_path / "models"))
    assert model.name == "mine"
    assert model.digest == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("folder", "name"),
    [("my model (2)", "my-model-2-"), ("_v1.2", "v1.2"), ("モデル", "model"), ("m" * 120, "m" * 100)],
)
def test_a_model_has_a_name_that_a_job_can_ask_for(tmp_path: Path, folder: str, name: str) -> None:
    write_package(tmp_path / folder, HEAD)
    model = load(str(tmp_path / folder), CPU, settings(tmp_path))
    assert model.name == Options(model=model.name).model == name


def test_a_name_that_is_nowhere_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=str(tmp_path / "absent.onnx")):
        load("absent", CPU, settings(tmp_path))


def test_a_changed_onnx_file_is_refused_with_both_hashes(tmp_path: Path) -> None:
    stated = "0" * 64
    folder = write_package(tmp_path / "mine", HEAD, sha256=stated)
    got = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    with pytest.raises(ModelInvalid, match=f"expected {stated}.*got {got}"):
        load("mine", CPU, settings(tmp_path))


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"family": "guess"}, "family: expected one of .*yolo_seg.*, got 'guess'"),
        (
            {"labels": ["a", "b", "c"]},
            r"expected 9 rows \(4 \+ 3 labels \+ 2\) or 8 columns .*; got output0 float32\[batch, 8, 84\]",
        ),
        ({"labels": []}, "labels"),
        ({"treshold": 0.3}, "treshold: Extra inputs are not permitted"),
        ({"threshold": 2}, "threshold: .*less than 1"),
        ({"input_size": [32, 32]}, r"input_size: expected \[64, 64\]"),
        ({"input_size": [0, 64]}, r"input_size\.0: Input should be greater"),
        ({"input_size": [64, 1_000_000]}, r"input_size\.1: Input should be less than or equal to 8192"),
        ({"labels": ["\ud800"]}, r"labels\.0: Value error, .*surrogates not allowed"),
        ({"labels": "disc"}, "labels: Input should be a valid list"),
        ({"normalisation": {"std": [0, 1, 1]}}, r"normalisation\.std\.0: Input should be greater than 0"),
        ({"normalisation": {"mean": [float("nan")] * 3}}, r"normalisation\.mean\.0: Input should be a finite number"),
    ],
)
def test_a_manifest_that_does_not_fit_names_the_key_and_what_was_expected(
    tmp_path: Path, manifest: dict[str, object], expected: str
) -> None:
    write_package(tmp_path / "mine", HEAD, **manifest)
    with pytest.raises(ModelInvalid, match=expected):
        load("mine", CPU, settings(tmp_path))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("family: [", r"model\.yaml: not YAML: line 1: expected"),
        ("[" * 20_000, r"model\.yaml: not YAML"),
        ("labels: [2024-02-30]", r"model\.yaml: not YAML: day is out of range"),
        ("", r"model\.yaml: expected keys and their values, got None"),
        ("- yolo_seg", r"model\.yaml: expected keys and their values, got \['yolo_seg'\]"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, content: str, expected: str) -> None:
    (write_package(tmp_path / "mine", HEAD) / "model.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ModelInvalid, match=expected) as caught:
        load("mine", CPU, settings(tmp_path))
    assert "\n" not in caught.value.reason


def test_labels_may_be_numbers(tmp_path: Path) -> None:
    write_package(tmp_path / "mine", HEAD, labels=[1, 2])
    assert load("mine", CPU, settings(tmp_path)).labels == ("1", "2")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("names", "5", r"metadata names: expected a name for each class, counted from 0, got '5'"),
        ("names", "{}", "metadata names: expected a name"),
        ("names", "{1: 'disc', 2: 'box'}", "metadata names: expected a name"),
        ("names", "{[1]: 'disc'}", "metadata names: expected a Python literal"),
        ("names", "garbage", "metadata names: expected a Python literal"),
        ("names", "[" * 5000, "metadata names: expected a Python literal"),
        ("imgsz", "[640]", r"metadata imgsz: input_size\.1: Field required"),
        ("imgsz", "[0, 64]", r"metadata imgsz: input_size\.0: Input should be greater"),
        ("imgsz", "['a', 'b']", r"metadata imgsz: input_size\.0: Input should be a valid integer"),
        ("task", "detect", "metadata task: expected 'segment', got 'detect'"),
    ],
)
def test_metadata_that_does_not_fit_is_named(tmp_path: Path, key: str, value: str, expected: str) -> None:
    metadata = {"task": "segment", "names": "{0: 'disc', 1: 'box'}", "imgsz": f"[{SIZE}, {SIZE}]"}
    write_onnx(tmp_path / "mine.onnx", HEAD, metadata=metadata | {key: value})
    with pytest.raises(ModelInvalid, match=expected):
        load("mine", CPU, settings(tmp_path))


@pytest.mark.parametrize("names", ["{'0': 'disc', '1': 'box'}", "['disc', 'box']", '{"0": "disc", "1": "box"}'])
@pytest.mark.parametrize("size", [str(SIZE), f"({SIZE}, {SIZE})"])
def test_metadata_is_read_as_any_exporter_writes_it(tmp_path: Path, names: str, size: str) -> None:
    write_onnx(tmp_path / "mine.onnx", HEAD, metadata={"task": "segment", "names": names, "imgsz": size})
    model = load("mine", CPU, settings(tmp_path))
    assert (model.labels, model.input_size) == (LABELS, (SIZE, SIZE))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def scribble(path: Path) -> None:
    path.write_bytes(b"no model at all")


@pytest.mark.parametrize("harm", [damage, scribble])
def test_a_file_that_is_no_onnx_is_refused_by_name(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    harm(write_package(tmp_path / "mine", HEAD) / "model.onnx")
    with pytest.raises(ModelInvalid, match=r"mine.*model\.onnx.*no ONNX file, or one that was cut off"):
        load("mine", CPU, settings(tmp_path))


def test_an_onnx_file_without_manifest_or_known_metadata_says_what_to_write(tmp_path: Path) -> None:
    write_onnx(tmp_path / "bare.onnx", HEAD)
    with pytest.raises(ModelInvalid, match=r"write a model\.yaml"):
        load("bare", CPU, settings(tmp_path))


@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_every_picture_gets_its_own_answer_whatever_the_batch(tmp_path: Path, batch: int | str) -> None:
    write_package(tmp_path / "mine", HEAD, batch=batch)
    model = load("mine", CPU, settings(tmp_path))
    assert batch in (model.batch_limit, "batch")
    found = run(model, *(grey(value) for value in (255, 204, 0, 255, 128)))
    assert [(instances.scores * 100).round().tolist() for instances in found] == [
        [80, 40],
        [64, 32],
        [],
        [80, 40],
        [40],
    ]


@pytest.mark.parametrize("sides", [(SIZE, "width"), ("height", SIZE)])
def test_an_input_with_one_open_side_takes_pictures_of_any_shape(tmp_path: Path, sides: tuple[int | str, ...]) -> None:
    metadata = {"task": "segment", "names": "{0: 'disc', 1: 'box'}", "imgsz": f"[{SIZE}, {SIZE}]"}
    write_onnx(tmp_path / "mine.onnx", HEAD, metadata=metadata, sides=(sides[0], sides[1]))
    model = load("mine", CPU, settings(tmp_path))
    for height, width in ((20, 100), (100, 20)):
        [instances] = run(model, grey(255, height, width))
        assert len(instances) > 0
    write_onnx(tmp_path / "other.onnx", HEAD, metadata=metadata | {"imgsz": "[32, 32]"}, sides=(sides[0], sides[1]))
    with pytest.raises(ModelInvalid, match=r"input_size: expected \[.*\] .*, got \[32, 32\]"):
        load("other", CPU, settings(tmp_path))


def test_what_the_runtime_says_on_load_is_one_line_with_its_reason(tmp_path: Path) -> None:
    write_package(tmp_path / "mine", HEAD)
    file = tmp_path / "mine/model.onnx"
    model = onnx.load(str(file))
    model.ir_version = 999
    onnx.save(model, str(file))
    with pytest.raises(ModelInvalid, match=r"model 'mine' .*IR version: 999, max supported") as caught:
        load("mine", CPU, settings(tmp_path))
    assert "\n" not in caught.value.reason


def test_boxes_and_masks_are_in_the_pictures_own_pixels(tmp_path: Path) -> None:
    write_package(tmp_path / "mine", HEAD)
    [instances] = run(load("mine", CPU, settings(tmp_path)), grey(255, height=4 * SIZE, width=2 * SIZE))
    # The picture was halved twice and centred: 16 columns of border at each side.
    assert instances.boxes.tolist() == [[0, 32, 96, 128], [56, 120, 128, 240]]
    assert [mask.area for mask in instances.masks] == [96 * 96, 72 * 120]


def test_a_score_equal_to_the_threshold_is_not_kept(tmp_path: Path) -> None:
    write_package(tmp_path / "mine", head_of(((8, 8, 40, 32), 1, 0.5)))
    model = load("mine", CPU, settings(tmp_path))
    prepared = model.prepare(grey(255))
    [outputs] = model.infer([prepared])
    assert len(model.finish(outputs, prepared, 0.5)) == 0
    assert len(model.finish(outputs, prepared, 0.49)) == 1


def test_an_instance_whose_mask_is_empty_is_dropped_with_its_box(tmp_path: Path) -> None:
    head = HEAD.copy()
    head[-2, 0] = -1
    write_package(tmp_path / "mine", head)
    [instances] = run(load("mine", CPU, settings(tmp_path)), grey(255))
    assert instances.class_ids.tolist() == [0]


def test_numbers_that_are_not_finite_are_no_instances(tmp_path: Path) -> None:
    head = head_of(((8, 8, 40, 32), 1, 0.8), ((1, 1, 9, 9), 0, 0.7), ((30, 30, 60, 60), 0, 0.4))
    head[2, 0], head[5, 1], head[4, 1] = np.inf, np.nan, np.nan
    write_package(tmp_path / "mine", head)
    [instances] = run(load("mine", CPU, settings(tmp_path)), grey(255))
    assert instances.class_ids.tolist() == [0]
    assert instances.boxes.tolist() == [[30, 30, 60, 60]]


def test_a_tensor_that_the_model_cannot_take_is_a_model_error(tmp_path: Path) -> None:
    write_package(tmp_path / "mine", HEAD)
    write_package(tmp_path / "other", HEAD)
    model = load("mine", CPU, settings(tmp_path))
    prepared = model.prepare(grey(255))
    cut = type(prepared)({"images": prepared.tensors["images"][:, :, :32]}, prepared.fit)
    with pytest.raises(ModelError):
        model.infer([cut])


def test_the_embedded_model_gives_the_same_bits_in_a_batch_of_any_size(tmp_path: Path) -> None:
    model = load("shapes", CPU, settings(tmp_path))
    random = np.random.default_rng(0)
    prepared = [model.prepare(random.integers(0, 256, (90, 120, 3), np.uint8)) for _ in range(8)]
    alone = [model.infer([one])[0] for one in prepared]
    for size in (2, 3, 8):
        for start in range(0, 8, size):
            for outputs, expected in zip(model.infer(prepared[start : start + size]), alone[start:], strict=False):
                assert all(np.array_equal(outputs[name], expected[name]) for name in expected)


@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_a_simulated_device_answers_every_picture_as_the_model_answered_one(tmp_path: Path, batch: int | str) -> None:
    write_package(tmp_path / "mine", HEAD, batch=batch)
    model = load("mine", Device("sim", 1), settings(tmp_path))
    first, *others = run(model, grey(255), grey(0), grey(9))
    assert len(first) > 0
    for other in others:
        assert other.scores.tolist() == first.scores.tolist()
        assert other.boxes.tolist() == first.boxes.tolist()


@pytest.mark.parametrize("kind", ["gpu", "npu", "dcu"])
def test_a_device_that_cannot_run_here_is_an_error_that_names_what_can(tmp_path: Path, kind: str) -> None:
    if kind in available():
        pytest.skip(f"this onnxruntime is built for {kind}")
    with pytest.raises(DeviceUnavailable, match=f"{kind}:0.*cpu"):
        load("shapes", Device(kind), settings(tmp_path))  # type: ignore[arg-type]


@pytest.mark.gpu
def test_on_a_gpu_the_embedded_model_finds_what_it_finds_on_the_cpu(tmp_path: Path) -> None:
    if "gpu" not in available():
        pytest.skip("this onnxruntime is not built for gpu")
    on_gpu, on_cpu = (load("shapes", device, settings(tmp_path)) for device in (Device("gpu"), CPU))
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    prepared = on_cpu.prepare(image)
    [ours], [expected] = on_gpu.infer([prepared]), on_cpu.infer([prepared])
    assert all(np.allclose(ours[name], expected[name], rtol=1e-2, atol=1e-2) for name in expected)
