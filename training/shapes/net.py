"""The network of `shapes`: a small one-stage detector with mask prototypes, exported in the `yolo_seg` layout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE = 256
STRIDES = (8, 16)
PROTOTYPES = 24
PROTOTYPE_STRIDE = 2
_WIDTH = 64


class Unit(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inward: int, outward: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inward, outward, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outward, momentum=0.03, eps=1e-3),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two 3x3 units beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = Unit(channels, channels), Unit(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class Stage(nn.Module):
    """Halve the resolution, then run residuals on half of the channels and join every intermediate."""

    def __init__(self, inward: int, outward: int, depth: int) -> None:
        super().__init__()
        half = outward // 2
        self.down = Unit(inward, outward, 3, 2)
        self.left, self.right = Unit(outward, half, 1), Unit(outward, half, 1)
        self.steps = nn.ModuleList(Residual(half) for _ in range(depth))
        self.join = Unit(half * (depth + 2), outward, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        parts = [self.left(x), self.right(x)]
        for step in self.steps:
            parts.append(step(parts[-1]))
        return self.join(torch.cat(parts, 1))


class Pooled(nn.Module):
    """Maxima over growing neighbourhoods: context for the coarsest level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce, self.join = Unit(channels, half, 1), Unit(half * 3, channels, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        wider = self.pool(x)
        return self.join(torch.cat([x, wider, self.pool(wider)], 1))


class Head(nn.Module):
    """Class scores, box distances and mask coefficients of one level."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scores = nn.Sequential(Unit(_WIDTH, _WIDTH), nn.Conv2d(_WIDTH, classes, 1))
        self.geometry = nn.Sequential(Unit(_WIDTH, _WIDTH), nn.Conv2d(_WIDTH, 4 + PROTOTYPES, 1))
        nn.init.constant_(self.scores[-1].bias, -4.6)
        nn.init.constant_(self.geometry[-1].bias[:4], 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.geometry(x), self.scores(x)], 1).flatten(2)


class Prototypes(nn.Module):
    """Mask prototypes at half the input's resolution, from the pyramid and two early features."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse, self.middle_in, self.middle = Unit(_WIDTH, 32), Unit(32, 32, 1), Unit(32, 32)
        self.narrow, self.fine_in, self.fine = Unit(32, 16, 1), Unit(16, 16, 1), Unit(16, 16)
        self.out = nn.Conv2d(16, PROTOTYPES, 1)

    def forward(self, stem: Tensor, early: Tensor, pyramid: Tensor) -> Tensor:
        x = self.middle(_doubled(self.coarse(pyramid)) + self.middle_in(early))
        x = self.fine(_doubled(self.narrow(x)) + self.fine_in(stem))
        return self.out(x)


class ShapesNet(nn.Module):
    """From float32 [b,3,256,256] in 0..1 to raw predictions [b,4+24+classes,anchors] and prototypes [b,24,128,128].

    The prediction's channels are ltrb distances (softplus of them, in strides), coefficients, class logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = Unit(3, 16, 3, 2)
        self.stage4, self.stage8 = Stage(16, 32, 1), Stage(32, 64, 2)
        self.stage16, self.stage32 = Stage(64, 128, 2), Stage(128, 128, 1)
        self.pooled = Pooled(128)
        self.side8, self.side16, self.side32 = Unit(64, _WIDTH, 1), Unit(128, _WIDTH, 1), Unit(128, _WIDTH, 1)
        self.smooth8, self.smooth16 = Unit(_WIDTH, _WIDTH), Unit(_WIDTH, _WIDTH)
        self.head8, self.head16 = Head(classes), Head(classes)
        self.prototypes = Prototypes()
        centres, strides = anchors()
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        stem = self.stem(images)
        c4 = self.stage4(stem)
        c8 = self.stage8(c4)
        c16 = self.stage16(c8)
        c32 = self.pooled(self.stage32(c16))
        p16 = self.smooth16(self.side16(c16) + _doubled(self.side32(c32)))
        p8 = self.smooth8(self.side8(c8) + _doubled(p16))
        raw = torch.cat([self.head8(p8), self.head16(p16)], 2)
        return raw, self.prototypes(stem, c4, p8)

    def boxes(self, raw: Tensor) -> Tensor:
        """Return boxes x1, y1, x2, y2 in input pixels, [b,anchors,4], of raw predictions."""
        distances = functional.softplus(raw[:, :4].float()).transpose(1, 2) * self.strides
        return torch.cat([self.centres - distances[..., :2], self.centres + distances[..., 2:]], -1)


class Exported(nn.Module):
    """The network with its outputs as Ultralytics lays them out: [b, cxcywh + scores + coefficients, anchors]."""

    def __init__(self, net: ShapesNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        raw, prototypes = self.net(images)
        boxes = self.net.boxes(raw)
        low, high = boxes[..., :2], boxes[..., 2:]
        centred = torch.cat([(low + high) / 2, high - low], -1).transpose(1, 2)
        coefficients, logits = raw[:, 4 : 4 + PROTOTYPES], raw[:, 4 + PROTOTYPES :]
        return torch.cat([centred, logits.sigmoid(), coefficients], 1), prototypes


def anchors() -> tuple[Tensor, Tensor]:
    """Return the centre of every cell in input pixels, float32 [anchors,2] x and y, and its stride [anchors,1]."""
    centres, strides = [], []
    for stride in STRIDES:
        ticks = (torch.arange(SIZE // stride) + 0.5) * stride
        y, x = torch.meshgrid(ticks, ticks, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()], 1))
        strides.append(torch.full((len(centres[-1]), 1), float(stride)))
    return torch.cat(centres), torch.cat(strides)


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
