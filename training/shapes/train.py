"""Train `shapes` for a fixed wall time: python -m training.shapes.train --work FOLDER --minutes 60."""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.shapes.loss import Truth, losses
from training.shapes.net import SIZE, ShapesNet
from training.shapes.outlines import CLASSES
from training.shapes.pool import Pool, draw_pool

SEED = 20_000_000
"""Seed of the first training picture; those of the measurement lie below it."""
GAINS = torch.tensor([1.0, 5.0, 4.0, 2.0])
WARM_UP = 300


class Trainer:
    """The network, its running average, its optimiser and the wall time spent, kept together in a checkpoint."""

    def __init__(self, checkpoint: Path, seconds: float, rate: float) -> None:
        torch.manual_seed(0)
        self.net = ShapesNet(len(CLASSES)).to(memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.net).eval()
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        plain = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))
        self.checkpoint, self.seconds, self.rate = checkpoint, seconds, rate
        self.spent, self.steps = 0.0, 0
        if checkpoint.exists():
            self._resume()

    def step(self, images: Tensor, truth: Truth) -> Tensor:
        """Take one step on a batch and return its losses, float32 [4]."""
        began = time.monotonic()
        progress = min(self.spent / self.seconds, 1.0)
        rate = self.rate * min(1.0, (self.steps + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group["lr"] = max(rate, self.rate * 0.002)
        with torch.autocast("cpu", torch.bfloat16):
            raw, prototypes = self.net(images)
        parts = losses(self.net, raw, prototypes, truth)
        self.optimiser.zero_grad(set_to_none=True)
        (parts * GAINS).sum().backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimiser.step()
        self.steps += 1
        self._follow()
        self.spent += time.monotonic() - began
        return parts.detach()

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "spent": self.spent,
            "steps": self.steps,
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.spent, self.steps = state["spent"], state["steps"]

    def _follow(self) -> None:
        keep = min(0.9985, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            mine = self.net.state_dict()
            for name, value in self.average.state_dict().items():
                if value.dtype.is_floating_point:
                    value.lerp_(mine[name], 1.0 - keep)


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


def _turned(pool: Pool, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def main() -> None:
    """Draw the pool, train until the wall time is spent, and leave checkpoint.pt in the work folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the pool and the checkpoint")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pictures", type=int, default=12_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    pool = draw_pool(options.work / "pool", options.pictures, SIZE, SEED)
    trainer = Trainer(options.work / "checkpoint.pt", 60.0 * options.minutes, options.rate)
    recent = torch.zeros(4)
    for images, truth in batches(pool, options.batch, trainer.steps):
        recent += trainer.step(images.contiguous(memory_format=torch.channels_last), truth)
        if trainer.steps % 100 == 0:
            means = " ".join(f"{part:.3f}" for part in (recent / 100).tolist())
            print(f"{trainer.steps} {trainer.spent:.0f}s class box mask dice {means}", flush=True)
            recent.zero_()
        if trainer.steps % 500 == 0:
            trainer.save()
        if trainer.spent >= trainer.seconds:
            break
    trainer.save()


if __name__ == "__main__":
    main()
