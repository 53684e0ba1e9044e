"""What the network is told: which anchors answer for which shape, and how far their answers are off.

Assignment after "TOOD: Task-aligned One-stage Object Detection" (Feng et al., 2021); box loss after "Distance-IoU Loss"
(Zheng et al., 2020), its complete form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.shapes.net import PROTOTYPE_STRIDE, PROTOTYPES, ShapesNet

CANDIDATES = 8
MASKS_A_BATCH = 192
_TINY = 1e-7


@dataclass(frozen=True)
class Truth:
    """A batch's truth: boxes float32 [b,m,4], class_ids int64 [b,m] (-1: none), owners uint8 [b,s,s]."""

    boxes: Tensor
    class_ids: Tensor
    owners: Tensor


@dataclass(frozen=True)
class Assigned:
    """The anchors that answer: picture, anchor and shape int64 [p], weight float32 [p]."""

    picture: Tensor
    anchor: Tensor
    shape: Tensor
    weight: Tensor


def losses(net: ShapesNet, raw: Tensor, prototypes: Tensor, truth: Truth) -> Tensor:
    """Return class, box, mask cross-entropy and mask dice loss, float32 [4], of a batch."""
    raw = raw.float()
    boxes, logits = net.boxes(raw), raw[:, 4 + PROTOTYPES :].transpose(1, 2)
    with torch.no_grad():
        chosen = assign(net, boxes, logits.sigmoid(), truth)
    wanted = torch.zeros_like(logits)
    labels = truth.class_ids[chosen.picture, chosen.shape]
    wanted[chosen.picture, chosen.anchor, labels] = chosen.weight
    total = chosen.weight.sum().clamp(min=1.0)
    scores = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / total
    overlap = complete_iou(boxes[chosen.picture, chosen.anchor], truth.boxes[chosen.picture, chosen.shape])
    box = ((1.0 - overlap) * chosen.weight).sum() / total
    coefficients = raw[:, 4 : 4 + PROTOTYPES].transpose(1, 2)[chosen.picture, chosen.anchor]
    return torch.stack([scores, box, *mask_losses(coefficients, prototypes, chosen, truth)])


def assign(net: ShapesNet, boxes: Tensor, scores: Tensor, truth: Truth) -> Assigned:
    """Give each shape the anchors within its box that best predict both its class and its box."""
    real = truth.class_ids >= 0
    overlap = _iou(truth.boxes[:, :, None], boxes[:, None])
    inside = _inside(net.centres, truth.boxes) & real[:, :, None]
    labels = truth.class_ids.clamp(min=0)[:, :, None].expand(-1, -1, scores.shape[1])
    aligned = scores.transpose(1, 2).gather(1, labels).sqrt() * overlap.pow(6) * inside + inside * 1e-9
    best = aligned.topk(CANDIDATES, dim=2)
    candidate = torch.zeros_like(aligned).scatter_(2, best.indices, 1.0).bool() & inside
    owner = torch.where(candidate, overlap, -1.0).max(1)
    taken = owner.values >= 0
    mine = candidate & taken[:, None] & (owner.indices[:, None] == torch.arange(real.shape[1])[None, :, None])
    aligned = aligned * mine
    top_aligned = aligned.amax(2, keepdim=True)
    top_overlap = (overlap * mine).amax(2, keepdim=True)
    weight = aligned / (top_aligned + 1e-12) * top_overlap
    picture, shape, anchor = mine.nonzero(as_tuple=True)
    return Assigned(picture, anchor, shape, weight[picture, shape, anchor])


def mask_losses(coefficients: Tensor, prototypes: Tensor, chosen: Assigned, truth: Truth) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and dice loss of the masks of some of the answering anchors, each within its shape's box."""
    some = torch.randperm(len(chosen.picture))[:MASKS_A_BATCH]
    some = some[chosen.picture[some].argsort()]
    picture, shape = chosen.picture[some], chosen.shape[some]
    if not len(some):
        return prototypes.sum() * 0.0, prototypes.sum() * 0.0
    counts = torch.bincount(picture, minlength=len(prototypes)).tolist()
    pixels_of = prototypes.permute(0, 2, 3, 1).flatten(1, 2)
    pairs = zip(pixels_of, coefficients[some].to(prototypes.dtype).split(counts), strict=True)
    logits = torch.cat([maps @ row.T for maps, row in pairs], 1).T
    side = prototypes.shape[-1]
    near = _crop(truth.boxes[picture, shape] / PROTOTYPE_STRIDE, side).flatten(1)
    row, pixel = near.nonzero(as_tuple=True)
    wanted = _shares(truth.owners, picture[row], pixel // side, pixel % side, shape[row] + 1)
    logits = logits[row, pixel].float()
    cross = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    guess = logits.sigmoid()
    pixels, both, guessed, there = (
        torch.zeros(len(near)).index_add_(0, row, part)
        for part in (torch.ones_like(wanted), guess * wanted, guess.square(), wanted.square())
    )
    dice = 1.0 - (2 * both + 1.0) / (guessed + there + 1.0)
    return (torch.zeros(len(near)).index_add_(0, row, cross) / pixels).mean(), dice.mean()


def complete_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the complete IoU, at most 1, of boxes [p,4] with boxes [p,4]."""
    overlap = _iou(first, second)
    low, high = torch.minimum(first[:, :2], second[:, :2]), torch.maximum(first[:, 2:], second[:, 2:])
    diagonal = (high - low).square().sum(1) + _TINY
    apart = (first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:]).square().sum(1) / 4
    angles = [torch.atan((box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1] + _TINY)) for box in (first, second)]
    skew = (4 / math.pi**2) * (angles[0] - angles[1]).square()
    share = (skew / (skew - overlap + 1 + _TINY)).detach()
    return overlap - apart / diagonal - skew * share


def _iou(first: Tensor, second: Tensor) -> Tensor:
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (first, second)]
    return shared / (areas[0] + areas[1] - shared + _TINY)


def _inside(centres: Tensor, boxes: Tensor) -> Tensor:
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    return ((centres > low) & (centres < high)).all(-1)


def _shares(owners: Tensor, picture: Tensor, y: Tensor, x: Tensor, number: Tensor) -> Tensor:
    """Return which share of each prototype pixel, float32 [n] in 0..1, shows the shape of that number."""
    steps = [(down, right) for down in range(PROTOTYPE_STRIDE) for right in range(PROTOTYPE_STRIDE)]
    shown = [
        owners[picture, y * PROTOTYPE_STRIDE + down, x * PROTOTYPE_STRIDE + right] == number for down, right in steps
    ]
    return torch.stack(shown).float().mean(0)


def _crop(boxes: Tensor, side: int) -> Tensor:
    ticks = torch.arange(side) + 0.5
    x1, y1, x2, y2 = (part[:, None] for part in boxes.unbind(1))
    columns = (ticks >= x1 - 2) & (ticks <= x2 + 2)
    rows = (ticks >= y1 - 2) & (ticks <= y2 + 2)
    return rows[:, :, None] & columns[:, None, :]
