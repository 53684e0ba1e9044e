"""Batches from the pool, each picture turned, mirrored and recoloured at random."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.shapes.loss import Truth
from training.shapes.net import SIZE
from training.shapes.pool import Pool

Turned = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float32]]


def batches(pool: Pool, size: int, seed: int) -> Iterator[tuple[Tensor, Truth]]:
    """Yield varied batches without end: images float32 [b,3,s,s] in 0..1 and their truth."""
    rng = np.random.default_rng(seed)
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(_batch, pool, size, rng)
        while True:
            ready = coming.result()
            coming = reader.submit(_batch, pool, size, rng)
            yield ready


def _batch(pool: Pool, size: int, rng: np.random.Generator) -> tuple[Tensor, Truth]:
    chosen = np.sort(rng.choice(len(pool.images), size, replace=False))
    images, owners = np.empty((size, SIZE, SIZE, 3), np.uint8), np.empty((size, SIZE, SIZE), np.uint8)
    boxes = pool.boxes[chosen]
    for row, position in enumerate(chosen):
        images[row], owners[row], boxes[row] = _turned(pool, int(position), rng)
    class_ids = pool.class_ids[chosen].astype(np.int64)
    gain = rng.uniform(0.7, 1.3, (size, 3, 1, 1)).astype(np.float32)
    shift = rng.uniform(-0.1, 0.1, (size, 1, 1, 1)).astype(np.float32)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255.0)
    x = (x.mul_(torch.from_numpy(gain)).add_(torch.from_numpy(shift))).clamp_(0.0, 1.0)
    return x, Truth(torch.from_numpy(boxes), torch.from_numpy(class_ids), torch.from_numpy(owners))


def _turned(pool: Pool, position: int, rng: np.random.Generator) -> Turned:
    image, owner, boxes = pool.images[position], pool.owners[position], pool.boxes[position]
    swap, flip_x, flip_y = rng.random(3) < 0.5
    if swap:
        image, owner, boxes = image.transpose(1, 0, 2), owner.T, boxes[:, [1, 0, 3, 2]]
    if flip_x:
        image, owner = image[:, ::-1], owner[:, ::-1]
        boxes = np.stack([SIZE - boxes[:, 2], boxes[:, 1], SIZE - boxes[:, 0], boxes[:, 3]], 1)
    if flip_y:
        image, owner = image[::-1], owner[::-1]
        boxes = np.stack([boxes[:, 0], SIZE - boxes[:, 3], boxes[:, 2], SIZE - boxes[:, 1]], 1)
    return image[:, :, rng.permutation(3)], owner, boxes
