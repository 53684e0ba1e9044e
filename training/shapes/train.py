"""Train `shapes` for a fixed wall time: python -m training.shapes.train --work FOLDER --minutes 60."""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from maskmill.deploy.demo.outlines import CLASSES
from training.shapes.batches import batches
from training.shapes.loss import Truth, losses
from training.shapes.net import SIZE, ShapesNet
from training.shapes.pool import draw_pool

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
