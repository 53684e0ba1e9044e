"""The pool of training pictures: drawn once at many sizes, letterboxed, kept in memory-mapped files."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from maskmill.deploy.demo.scenes import MOST_SHAPES, draw_scene
from training.shapes.decode import letterbox

SIDES = (320, 640)
"""Smallest and largest width of a picture, in pixels."""


@dataclass(frozen=True)
class Pool:
    """n letterboxed pictures and their truth.

    images: uint8 [n,s,s,3]. owners: uint8 [n,s,s], 0 or 1 + position of the shape a pixel shows.
    boxes: float32 [n,9,4] x1y1x2y2 in input pixels. class_ids: int8 [n,9], -1 where there is no shape.
    """

    images: npt.NDArray[np.uint8]
    owners: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int8]


def picture_size(seed: int) -> tuple[int, int]:
    """Return the width and height, in pixels, of the picture of this seed."""
    rng = np.random.default_rng([seed, 7])
    width = int(rng.integers(SIDES[0], SIDES[1] + 1))
    return width, int(width * rng.choice([0.75, 0.75, 1.0, 0.625, 1.2]))


def open_pool(folder: Path, count: int, size: int, mode: str = "r") -> Pool:
    """Open the pool's files; with mode "w+" create them."""
    folder.mkdir(parents=True, exist_ok=True)

    def mapped(name: str, dtype: npt.DTypeLike, *shape: int) -> npt.NDArray:  # type: ignore[type-arg]
        return np.memmap(folder / name, dtype, mode, shape=(count, *shape))  # type: ignore[call-overload, no-any-return]

    return Pool(
        mapped("images", np.uint8, size, size, 3),
        mapped("owners", np.uint8, size, size),
        mapped("boxes", np.float32, MOST_SHAPES, 4),
        mapped("class_ids", np.int8, MOST_SHAPES),
    )


def draw_pool(folder: Path, count: int, size: int, seed: int) -> Pool:
    """Draw the pool on two processes, unless this very pool is there already, and open it."""
    done = folder / "done"
    told = f"{count} {size} {seed}"
    if not done.exists() or done.read_text() != told:
        open_pool(folder, count, size, "w+")
        starts = range(0, count, 200)
        with ProcessPoolExecutor(2) as processes:
            list(processes.map(partial(_draw_some, folder, count, size, seed), starts))
        done.write_text(told)
    return open_pool(folder, count, size)


def _draw_some(folder: Path, count: int, size: int, seed: int, start: int) -> None:
    cv2.setNumThreads(1)
    pool = open_pool(folder, count, size, "r+")
    for position in range(start, min(start + 200, count)):
        _draw_one(pool, position, size, seed + position)


def _draw_one(pool: Pool, position: int, size: int, seed: int) -> None:
    scene = draw_scene(seed, *picture_size(seed))
    square, box = letterbox(scene.image, size)
    owner = np.zeros(scene.masks.shape[1:], np.uint8)
    pool.class_ids[position] = -1
    pool.class_ids[position, : len(scene.class_ids)] = scene.class_ids
    for number, mask in enumerate(scene.masks):
        owner[mask] = number + 1
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        ends = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        pool.boxes[position, number] = ends * box.scale + np.array([box.left, box.top] * 2)
    inner = cv2.resize(owner, (box.width, box.height), interpolation=cv2.INTER_NEAREST_EXACT)
    pool.images[position] = square
    pool.owners[position] = 0
    pool.owners[position, box.top : box.top + box.height, box.left : box.left + box.width] = inner
