"""The Preprocess steps of an inference.yml do what their keys say, in the order in which the file lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.images.image import Image
from maskmill.worker.models.families.paddle_config import Config
from maskmill.worker.models.families.paddle_steps import Step, fixed_size, resized, tensor
from tests.paddlex_models import DETR_STEPS, write_config

RESIZE, SCALE, PERMUTE = DETR_STEPS
IMAGENET = {"type": "NormalizeImage", "is_scale": True, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PAD = {"type": "PadStride", "stride": 32}


def steps(folder: Path, *listed: dict[str, Any]) -> tuple[Step, ...]:
    return Config.beside(write_config(folder, Preprocess=list(listed)) / "inference.onnx").steps


def keep_ratio(height: int, width: int, interp: int = 2) -> dict[str, Any]:
    return {"type": "Resize", "target_size": [height, width], "keep_ratio": True, "interp": interp}


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((500, 1000), (666, 1333)),
        ((100, 10_000), (13, 1333)),
        ((1, 100_000), (1, 1333)),
        # 800 / 1600 of 1001 is 500.5: to the even side.
        ((1600, 2001), (800, 1000)),
    ],
)
def test_a_kept_ratio_stays_inside_both_targets_and_rounds_half_to_even(
    tmp_path: Path, picture: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert resized(steps(tmp_path, keep_ratio(800, 1333)), *picture) == expected


def test_without_keeping_the_ratio_the_target_is_height_then_width(tmp_path: Path) -> None:
    found = steps(tmp_path, {"type": "Resize", "target_size": [32, 64], "keep_ratio": False, "interp": 1})
    assert resized(found, 7, 9) == fixed_size(found) == (32, 64)
    assert tensor(found, noise(7, 9)).shape == (1, 3, 32, 64)


def test_a_kept_ratio_has_no_fixed_size(tmp_path: Path) -> None:
    assert fixed_size(steps(tmp_path, keep_ratio(800, 1333))) is None


@pytest.mark.parametrize("code", range(5))
def test_interpolation_codes_are_opencvs(tmp_path: Path, code: int) -> None:
    image = noise(50, 40)
    found = steps(tmp_path, RESIZE | {"target_size": [21, 33], "interp": code}, SCALE)
    expected = cv2.resize(image, (33, 21), interpolation=code).transpose(2, 0, 1)[None]
    assert np.abs(tensor(found, image) * 255 - expected).max() < 1e-3


def test_a_picture_of_the_target_size_is_only_normalised(tmp_path: Path) -> None:
    found = steps(tmp_path, RESIZE | {"target_size": [8, 8]}, IMAGENET, PERMUTE)
    expected = (noise(8, 8) / 255 - IMAGENET["mean"]) / IMAGENET["std"]
    assert np.abs(tensor(found, noise(8, 8))[0].transpose(1, 2, 0) - expected).max() < 1e-6


def test_without_scaling_the_values_stay_between_0_and_255(tmp_path: Path) -> None:
    found = steps(tmp_path, SCALE | {"is_scale": False})
    assert np.array_equal(tensor(found, noise(5, 4))[0].transpose(1, 2, 0), noise(5, 4))


def test_normalising_before_resizing_interpolates_the_normalised_values(tmp_path: Path) -> None:
    image = noise(40, 30)
    first, last = (
        tensor(steps(tmp_path / name, *listed), image)
        for name, listed in (("first", (IMAGENET, keep_ratio(30, 30, 1))), ("last", (keep_ratio(30, 30, 1), IMAGENET)))
    )
    normalised = ((image / 255 - IMAGENET["mean"]) / IMAGENET["std"]).astype(np.float32)
    expected = cv2.resize(normalised, (22, 30), interpolation=cv2.INTER_LINEAR)
    assert np.abs(first[0].transpose(1, 2, 0) - expected).max() < 1e-5
    # Interpolated as bytes, values are rounded: the order of the steps can be seen.
    assert np.abs(first - last).max() > 1e-3


def test_padding_adds_zeros_at_the_right_and_the_bottom(tmp_path: Path) -> None:
    found = steps(tmp_path, IMAGENET, PERMUTE, PAD)
    padded = tensor(found, noise(33, 64))
    assert padded.shape == (1, 3, 64, 64)
    assert resized(found, 33, 64) == (33, 64)
    assert (padded[:, :, 33:] == 0).all()
    assert np.array_equal(padded[:, :, :33], tensor(found[:2], noise(33, 64)))


def test_a_stride_below_one_pads_nothing(tmp_path: Path) -> None:
    assert tensor(steps(tmp_path, PAD | {"stride": -1}), noise(5, 7)).shape == (1, 3, 5, 7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Preprocess": [{"type": "RandomCrop"}]}, r"Preprocess\.0: .*'RandomCrop'.*'Resize'"),
        ({"Preprocess": [RESIZE | {"interp": 9}]}, r"Preprocess\.0\.Resize\.interp"),
        ({"Preprocess": [RESIZE | {"target_size": [640]}]}, r"target_size"),
        ({"Preprocess": [SCALE | {"norm_type": "min_max"}]}, "norm_type"),
        ({"Preprocess": None}, "Preprocess"),
        ({"label_list": []}, "label_list"),
        ({"draw_threshold": 7}, "draw_threshold"),
    ],
)
def test_a_key_that_is_not_understood_is_an_error_that_names_it(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ModelInvalid, match=rf"inference\.yml: .*{expected}"):
        Config.beside(write_config(tmp_path, **changes) / "inference.onnx")
