"""ResultDocument: the document `_res.json` of one item, and the names of its artifacts.

The first four keys and their order are the seed's; what it lacks stands after them. `masks[i]` belongs to `boxes[i]`:

rle      {"size": [height, width], "counts": "…"}: COCO's compressed RLE of the whole picture
polygon  {"size": [height, width], "polygons": [[outer, hole, …], …]}: one list a connected part, its outer ring first
         and then its holes; a ring is [x0, y0, x1, y1, …] along pixel edges, not closed by a repeated point
dense    rows of 0 and 1: the mask cut to its box with the edges rounded half to even
"""

from __future__ import annotations

import json
import re
from typing import Any, TypedDict


class Box(TypedDict):
    """One instance; `coordinate` is [x1, y1, x2, y2] in picture pixels, not rounded."""

    cls_id: int
    label: str
    score: float
    coordinate: list[float]


class ModelRef(TypedDict):
    """Which model found it; `digest` is the sha256 of its ONNX file."""

    name: str
    digest: str


class ResultDocument(TypedDict):
    """What `_res.json` holds; `width` and `height` in pixels, `threshold` the score that was asked for."""

    input_path: str | None
    page_index: int | None
    boxes: list[Box]
    masks: list[Any]
    width: int
    height: int
    model: ModelRef
    threshold: float


class SeedMask(TypedDict):
    """COCO's compressed RLE counts of the mask cut to its rounded box, and that crop's [height, width]."""

    rleResult: str
    size: list[int]


class SeedInstance(TypedDict):
    """One instance as the drop-in endpoint answers it."""

    bbox: list[float]
    categoryId: int
    categoryName: str
    score: float
    mask: SeedMask


def json_name(name: str) -> str:
    """The name of an item's result below artifacts/."""
    return f"{name}_res.json"


def image_name(name: str, suffix: str) -> str:
    """The name of an item's drawn picture below artifacts/; `suffix` without its dot."""
    return f"{name}_res.{suffix}"


def is_result(name: str) -> bool:
    """Whether a result of some item could have that name."""
    return re.fullmatch(r"(.*/)?[^/]*_res\.[a-z]+", name, re.DOTALL) is not None


def to_json(document: Any) -> bytes:
    """The document as UTF-8 JSON on one line: equal documents give equal bytes. Raises ValueError on NaN."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
