"""The drawn scenes: the same again for the same seed, and true to their masks and labels."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from maskmill.deploy.demo.scenes import CLASSES, Scene, draw_scene

WIDTH, HEIGHT = 320, 240
SEEDS = range(120)


@cache
def scenes() -> list[Scene]:
    return [draw_scene(seed, WIDTH, HEIGHT) for seed in SEEDS]


def topmost() -> list[tuple[str, npt.NDArray[np.int32]]]:
    """The class and the outer contour of each scene's last shape, where it lies wholly within the picture."""
    whole = []
    for scene in scenes():
        mask = scene.masks[-1]
        edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
        if not any(edge.any() for edge in edges):
            contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            whole.append((CLASSES[scene.class_ids[-1]], np.asarray(max(contours, key=cv2.contourArea), np.int32)))
    return whole


def test_the_same_seed_and_size_draw_the_same_scene() -> None:
    """A scene is decided by its seed and size alone, whatever was drawn before it."""
    first = draw_scene(7, 331, 257)
    draw_scene(8, 331, 257)
    second = draw_scene(7, 331, 257)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.masks, second.masks)
    assert np.array_equal(first.class_ids, second.class_ids)


def test_another_seed_draws_another_scene() -> None:
    """No two seeds share a picture."""
    assert len({scene.image.tobytes() for scene in scenes()}) == len(SEEDS)


def test_a_scene_has_the_size_and_types_it_promises() -> None:
    """Image, masks and labels agree in size and number, from 1 to 9 shapes."""
    for scene in scenes():
        assert (scene.image.shape, scene.image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
        assert (scene.masks.shape[1:], scene.masks.dtype) == ((HEIGHT, WIDTH), np.bool_)
        assert (scene.class_ids.shape, scene.class_ids.dtype) == ((len(scene.masks),), np.int64)
        assert 1 <= len(scene.masks) <= 9


def test_no_pixel_belongs_to_two_shapes() -> None:
    """Masks are the visible parts, so they are disjoint."""
    assert all(int(scene.masks.sum(axis=0).max()) <= 1 for scene in scenes())


def test_every_shape_remains_visible() -> None:
    """However much shapes overlap, no label points at a sliver: the smallest diameter is 38 pixels here."""
    assert min(int(mask.sum()) for scene in scenes() for mask in scene.masks) >= 150


def test_shapes_overlap_in_many_scenes() -> None:
    """Occlusion occurs: some visible parts are cut by a later shape."""
    cut = [scene for scene in scenes() if any(_bitten(mask) for mask in _of_class(scene, "circle"))]
    assert len(cut) >= 5


def test_every_class_occurs() -> None:
    """A hundred scenes show each class many times."""
    seen = np.bincount(np.concatenate([scene.class_ids for scene in scenes()]), minlength=len(CLASSES))
    assert seen.min() >= 30


def test_a_shape_stands_out_from_what_surrounds_it() -> None:
    """In nearly every case a shape's colour differs from the ring of pixels around it."""
    gaps = [_gap(scene.image, mask) for scene in scenes() for mask in scene.masks]
    assert np.quantile(gaps, 0.05) > 30


@pytest.mark.parametrize(("name", "corners"), [("triangle", 3), ("rectangle", 4), ("star", 10), ("cross", 12)])
def test_a_label_fits_the_corners_of_its_shape(name: str, corners: int) -> None:
    """A shape that nothing hides has the corners of its class, give or take one on the pixel grid."""
    counts = [
        len(cv2.approxPolyDP(contour, 0.02 * cv2.arcLength(contour, True), True))
        for name_, contour in topmost()
        if name_ == name
    ]
    assert counts
    assert abs(float(np.median(counts)) - corners) <= 1


def test_only_circles_and_rings_are_round() -> None:
    """A shape that nothing hides fills its smallest enclosing circle if it is round, and only then."""
    for name, contour in topmost():
        share = cv2.contourArea(contour) / (np.pi * cv2.minEnclosingCircle(contour)[1] ** 2)
        assert (share > 0.88) == (name in {"circle", "ring"}), name


def test_rings_alone_have_a_hole() -> None:
    """A ring that nothing hides encloses pixels that are not its own."""
    rings = [scene for scene in scenes() if CLASSES[scene.class_ids[-1]] == "ring"]
    assert rings
    assert all(not mask[_middle(mask)] for mask in (scene.masks[-1] for scene in rings))


def _of_class(scene: Scene, name: str) -> npt.NDArray[np.bool_]:
    return scene.masks[scene.class_ids == CLASSES.index(name)]


def _bitten(mask: npt.NDArray[np.bool_]) -> bool:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)
    return bool(cv2.contourArea(largest) < 0.93 * cv2.contourArea(cv2.convexHull(largest)))


def _gap(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> float:
    around = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~mask
    return float(np.linalg.norm(image[mask].mean(axis=0) - image[around].mean(axis=0)))


def _middle(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    return int((rows.min() + rows.max()) // 2), int((columns.min() + columns.max()) // 2)
