"""Draw: masks, boxes and labels on the picture, one colour a class."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.masks.mask import Mask, Offsets
from maskmill.worker.rendering.text import Line, line

# The seed's palette, RGB, in its order.
PALETTE: tuple[tuple[int, int, int], ...] = tuple(
    (value >> 16, value >> 8 & 255, value & 255)
    for value in (
        *(0xFF0000, 0xCCFF00, 0x00FF66, 0x0066FF, 0xCC00FF, 0xFF4D00, 0x80FF00, 0x00FFB2, 0x001AFF, 0xFF00E5),
        *(0xFF9900, 0x33FF00, 0x00FFFF, 0x3300FF, 0xFF0099, 0xFFE500, 0x00FF1A, 0xB200FF, 0xFF8000, 0xFF004D),
    )
)

OPACITY = 0.5
STRIP_PIXELS = 1 << 20
# Pixels an em: at most so small where there is room, and where there is none.
SMALLEST_TEXT, READABLE_TEXT = 13, 9
# Ems around the baseline that every label has, around ink that goes further, and at both ends.
ABOVE, BELOW, GAP, MARGIN = 1.0, 0.35, 0.1, 0.25
SPACE = Line(width=0.27)
WHITE, NAVY = (255, 255, 255), (20, 14, 53)

Spans = tuple[Offsets, Offsets]


def colour(class_id: int) -> tuple[int, int, int]:
    """The RGB colour of a class, the same in every picture."""
    return PALETTE[class_id % len(PALETTE)]


def draw(image: Image, instances: Instances, labels: tuple[str, ...], *, in_place: bool = False) -> Image:
    """The picture with its instances on it: a new array, or the given one where `in_place` and it can be written to.

    Where masks overlap the smaller one shows, where labels overlap the better score's does.
    """
    canvas = image if in_place and image.flags.carray else image.copy()
    class_ids = instances.class_ids.tolist()
    _tint(canvas, instances.masks, class_ids)
    boxes, scores = instances.boxes.tolist(), instances.scores.tolist()
    for box, class_id in zip(boxes, class_ids, strict=True):
        _outline(canvas, box, colour(class_id))
    for box, class_id, score in reversed(list(zip(boxes, class_ids, scores, strict=True))):
        _label(canvas, box, _name(labels, class_id), line(f"{score:.2f}"), colour(class_id))
    return canvas


def _tint(canvas: Image, masks: tuple[Mask, ...], class_ids: list[int]) -> None:
    """Blend the masks in, strip by strip of columns; each pixel is touched at most once."""
    if not masks:
        return
    height, width = canvas.shape[:2]
    starts, ends, colours = _topmost(masks, class_ids, height)
    first, last = int(starts[0]) // height, (int(ends[-1]) - 1) // height + 1
    step = max(STRIP_PIXELS // height, 1)
    for left in range(first, last, step):
        right = min(left + step, width)
        here = slice(np.searchsorted(ends, left * height, "right"), np.searchsorted(starts, right * height))
        # A colour's number stands at its span's start and is taken back at its end; their running sum is the picture.
        size = (right - left) * height
        steps = np.zeros(size + 1, np.uint8)
        steps[np.maximum(starts[here] - left * height, 0)] = colours[here]
        steps[np.minimum(ends[here] - left * height, size)] -= colours[here]
        numbers = np.cumsum(steps[:-1], dtype=np.uint8).reshape(right - left, height)
        _blend(canvas[:, left:right], np.ascontiguousarray(numbers.T))


def _blend(strip: Image, numbers: Image) -> None:
    """Mix each pixel whose number is not 0 with the palette's colour of that number, from 1."""
    tints = cv2.applyColorMap(numbers, _table())
    mixed = cv2.addWeighted(strip, 1 - OPACITY, tints, OPACITY, 0)
    cv2.copyTo(mixed, numbers, strip)


def _topmost(masks: tuple[Mask, ...], class_ids: list[int], height: int) -> tuple[Offsets, Offsets, NDArray[np.uint8]]:
    """Disjoint spans of the whole picture in order, and which colour shows there: that of the smallest mask."""
    nothing = np.zeros(0, np.int64)
    covered: Spans = (nothing, nothing)
    parts: list[tuple[Offsets, Offsets, NDArray[np.uint8]]] = []
    for index in sorted(range(len(masks)), key=lambda index: masks[index].area):
        (starts, ends), covered = _lay_under(masks[index].spans(height), covered)
        parts.append((starts, ends, np.full(len(starts), 1 + class_ids[index] % len(PALETTE), np.uint8)))
    starts, ends, colours = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(starts)
    return starts[order], ends[order], colours[order]


def _lay_under(spans: Spans, covered: Spans) -> tuple[Spans, Spans]:
    """What of `spans` lies outside `covered`, and both together; all sorted and disjoint."""
    count, held = len(spans[0]), len(covered[0])
    edges = np.concatenate([*spans, *covered])
    order = np.argsort(edges, kind="stable")
    edges = edges[order]
    final = np.append(edges[1:] != edges[:-1], True)
    inside = np.cumsum(np.repeat(np.array([1, -1, 0, 0], np.int32), [count, count, held, held])[order])[final] > 0
    under = np.cumsum(np.repeat(np.array([0, 0, 1, -1], np.int32), [count, count, held, held])[order])[final] > 0
    return _where(edges[final], inside & ~under), _where(edges[final], inside | under)


def _where(edges: Offsets, state: NDArray[np.bool_]) -> Spans:
    """The spans in which `state` holds, where state[i] is told from edges[i] on."""
    turns = edges[state != np.append(False, state[:-1])]
    return turns[0::2], turns[1::2]


@functools.cache
def _table() -> NDArray[np.uint8]:
    table = np.zeros((256, 1, 3), np.uint8)
    table[1 : 1 + len(PALETTE), 0] = PALETTE
    return table


def _outline(canvas: Image, box: list[float], tone: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = map(round, box)
    cv2.rectangle(canvas, (x1, y1), (max(x2 - 1, x1), max(y2 - 1, y1)), tone, max(round(max(canvas.shape) / 400), 1))


def _name(labels: tuple[str, ...], class_id: int) -> Line:
    """The class's label, or its id after a `#` where nothing of the label would be seen."""
    name = line(labels[class_id])
    return name if name.above or name.below else line(f"#{class_id}")


def _label(canvas: Image, box: list[float], name: Line, score: Line, tone: tuple[int, int, int]) -> None:
    """The text on a filled box above the instance, or inside it where there is no room; never outside the picture."""
    height, width = canvas.shape[:2]
    text, size = _fitted(name, score, max(round(0.018 * max(height, width)) + 2, SMALLEST_TEXT), width)
    above, below = max(ABOVE, text.above + GAP) * size, max(BELOW, text.below + GAP) * size
    tall, wide = min(round(above + below), height), min(round(size * (text.width + 2 * MARGIN)), width)
    left = max(min(round(box[0]), width - wide), 0)
    top = round(box[1]) - tall
    top = max(min(top if top >= 0 else round(box[1]), height - tall), 0)
    ink = text.ink(size, tall, wide, (MARGIN * size, above))
    canvas[top : top + tall, left : left + wide] = cv2.applyColorMap(ink, _inks(tone))


def _fitted(name: Line, score: Line, size: int, width: int) -> tuple[Line, int]:
    """Name and score and the pixels an em; smaller where the picture is narrow, without the score where very narrow."""
    for text in (name + SPACE + score, name):
        fitting = min(size, int(width / (text.width + 2 * MARGIN)))
        if fitting >= READABLE_TEXT:
            return text, fitting
    return name, READABLE_TEXT


@functools.cache
def _inks(tone: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The colour of a label's pixel by how much of it is ink, uint8 [256,1,3]."""
    red, green, blue = tone
    ink = WHITE if 0.299 * red + 0.587 * green + 0.114 * blue < 128 else NAVY
    share = np.arange(256)[:, None, None] / 255
    return np.rint(np.array(tone) * (1 - share) + np.array(ink) * share).astype(np.uint8)
