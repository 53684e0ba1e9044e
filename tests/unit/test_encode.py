"""`_res.json` keeps the seed's keys, its masks agree in every form, and equal results are equal bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from maskmill.shared.errors import ResultTooLarge
from maskmill.shared.jobs.results import ResultDocument, image_name, json_name, to_json
from maskmill.worker.masks.instances import Instances
from maskmill.worker.rendering.encode import (
    Subject,
    encode_image,
    encode_result,
    image_suffix,
    result_document,
    seed_instances,
    shortest_decimals,
)
from tests.instances import filled, instances_of

# pycocotools 2.0.11 decodes through an array protocol of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 40, 60
SUBJECT = Subject("folder/a picture.png", 2, HEIGHT, WIDTH)


@dataclass(frozen=True)
class Facts:
    name: str = "mine"
    digest: str = "ab" * 32
    labels: tuple[str, ...] = ("Katze", "狗")


def two() -> Instances:
    hollow = filled(HEIGHT, WIDTH, 5, 6, 20, 30)
    hollow[10:12, 8:15] = 0
    return instances_of(
        ((4.5, 5.5, 20.5, 30.25), 1, 0.9, hollow),
        ((30, 10, 59.6, 39.5), 0, 0.25, filled(HEIGHT, WIDTH, 31, 11, 58, 39)),
    )


def document(mask_format: str = "rle") -> ResultDocument:
    return result_document(SUBJECT, two(), Facts(), 0.2, mask_format)  # type: ignore[arg-type]


def whole(rle: dict[str, object]) -> NDArray[np.uint8]:
    return np.asarray(coco.decode(rle), np.uint8)


def test_the_keys_are_the_seeds_in_its_order_and_then_ours() -> None:
    assert list(document()) == ["input_path", "page_index", "boxes", "masks", "width", "height", "model", "threshold"]
    assert list(document()["boxes"][0]) == ["cls_id", "label", "score", "coordinate"]


def test_a_box_carries_its_class_its_score_and_its_unrounded_edges() -> None:
    assert document()["boxes"][0] == {
        "cls_id": 1,
        "label": "狗",
        "score": 0.9,
        "coordinate": [4.5, 5.5, 20.5, 30.25],
    }
    assert document()["model"] == {"name": "mine", "digest": "ab" * 32}
    assert (document()["width"], document()["height"], document()["threshold"]) == (WIDTH, HEIGHT, 0.2)


def test_an_rle_mask_is_of_the_whole_picture() -> None:
    for rle, mask in zip(document("rle")["masks"], two().masks, strict=True):
        assert rle["size"] == [HEIGHT, WIDTH]
        assert np.array_equal(whole(rle), mask.bitmap())


def test_a_dense_mask_is_the_crop_between_the_rounded_edges() -> None:
    rle, dense = document("rle")["masks"], document("dense")["masks"]
    assert np.array_equal(dense[0], whole(rle[0])[6:30, 4:20])
    assert np.array_equal(dense[1], whole(rle[1])[10:40, 30:60])


def test_a_polygon_mask_has_the_masks_area_less_its_holes() -> None:
    for polygon, mask in zip(document("polygon")["masks"], two().masks, strict=True):
        assert polygon["size"] == [HEIGHT, WIDTH]
        areas = [[area(ring) for ring in part] for part in polygon["polygons"]]
        assert sum(outer - sum(holes) for outer, *holes in areas) == mask.area


def area(ring: list[int]) -> float:
    x, y = np.array(ring).reshape(-1, 2).T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


def test_dense_masks_without_bound_are_refused_with_what_to_ask_for() -> None:
    side = 6000
    huge = instances_of(((0, 0, side, side), 0, 0.9, filled(side, side, 0, 0, 1, 1)))
    with pytest.raises(ResultTooLarge, match='mask_format "rle"'):
        result_document(Subject("a", None, side, side), huge, Facts(), 0.5, "dense")


def test_nothing_found_is_two_empty_lists() -> None:
    empty = result_document(SUBJECT, Instances.none(), Facts(), 0.2)
    assert (empty["boxes"], empty["masks"]) == ([], [])


@pytest.mark.parametrize("mask_format", ["rle", "polygon", "dense"])
def test_equal_results_are_equal_bytes_that_read_back(mask_format: str) -> None:
    data = encode_result(document(mask_format))
    assert data == encode_result(document(mask_format))
    assert json.loads(data) == document(mask_format)
    assert b", " not in data.replace(b"a picture", b"")


def test_a_result_with_a_number_that_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json({"score": float("nan")})


def test_floats_are_the_shortest_that_are_the_same_float32() -> None:
    values = np.random.default_rng(0).uniform(0, 4000, 1000).astype(np.float32)
    written = shortest_decimals(values)
    assert np.array_equal(np.array(written, np.float32), values)
    assert shortest_decimals(np.array([0.9, 162.39, 1e-5, 4000], np.float32)) == [0.9, 162.39, 1e-5, 4000.0]


def test_the_drop_in_form_holds_the_rle_of_each_crop() -> None:
    found = seed_instances(two(), Facts().labels, HEIGHT, WIDTH)
    assert list(found[0]) == ["bbox", "categoryId", "categoryName", "score", "mask"]
    assert (found[0]["categoryId"], found[0]["categoryName"]) == (1, "狗")
    for instance, crop in zip(found, document("dense")["masks"], strict=True):
        assert instance["mask"]["size"] == list(np.shape(crop))
        rle = {"size": instance["mask"]["size"], "counts": instance["mask"]["rleResult"]}
        assert np.array_equal(whole(rle), crop)
        assert type(instance["score"]) is float
        assert {type(edge) for edge in instance["bbox"]} == {float}


def test_a_box_thinner_than_a_pixel_has_the_seeds_empty_crop() -> None:
    thin = instances_of(((10.6, 5, 11.4, 9), 0, 0.9, filled(HEIGHT, WIDTH, 11, 5, 12, 9)))
    [instance] = seed_instances(thin, Facts().labels, HEIGHT, WIDTH)
    assert instance["mask"] == {"rleResult": "0", "size": [4, 0]}


def test_artifacts_are_named_after_the_item() -> None:
    assert json_name("folder/a") == "folder/a_res.json"
    assert image_name("folder/a", "jpg") == "folder/a_res.jpg"


@pytest.mark.parametrize(
    ("image_format", "input_format", "suffix"),
    [
        ("jpg", "png", "jpg"),
        ("jpg", None, "jpg"),
        ("input", "jpeg", "jpg"),
        *(("input", name, name) for name in ("png", "bmp", "webp", "tiff")),
        ("input", "gif", "png"),
        ("input", "pdf", "png"),
        ("input", None, "png"),
    ],
)
def test_the_drawn_pictures_format_is_jpeg_or_the_inputs_own(
    image_format: str, input_format: str | None, suffix: str
) -> None:
    assert image_suffix(image_format, input_format, 640) == suffix


@pytest.mark.parametrize(("suffix", "longest"), [("jpg", 65_500), ("webp", 16_383)])
def test_a_picture_too_long_for_its_format_is_written_as_png(suffix: str, longest: int) -> None:
    assert image_suffix("input", suffix.replace("jpg", "jpeg"), longest) == suffix
    assert image_suffix("input", suffix.replace("jpg", "jpeg"), longest + 1) == "png"
    assert encode_image(np.zeros((1, longest, 3), np.uint8), suffix)
    assert encode_image(np.zeros((1, longest + 1, 3), np.uint8), "png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tiff"])
def test_a_picture_is_written_with_red_as_red_and_always_alike(suffix: str) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :15] = (250, 20, 10)
    data = encode_image(image, suffix)
    assert data == encode_image(image, suffix)
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert back.shape == image.shape
    assert np.abs(back[10, 4].astype(int) - image[10, 4]).max() < 12
