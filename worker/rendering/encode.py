"""Encode: the bytes of an item's artifacts. Equal results give equal bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from maskmill.shared.errors import ResultTooLarge
from maskmill.shared.jobs.records import MaskFormat
from maskmill.shared.jobs.results import Box, ResultDocument, SeedInstance, to_json
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.masks.mask import Window, counts_text
from maskmill.worker.masks.polygons import polygons

# Nested lists take some ten bytes a pixel in memory: past this, the dense form would not be bounded.
MOST_DENSE_PIXELS = 1 << 25

_WRITERS: dict[str, tuple[int, ...]] = {
    "jpg": (cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_OPTIMIZE, 0),
    "png": (cv2.IMWRITE_PNG_COMPRESSION, 3),
    "bmp": (),
    "webp": (cv2.IMWRITE_WEBP_QUALITY, 90),
    "tiff": (cv2.IMWRITE_TIFF_COMPRESSION, 5),
}

# The longest side that the format, or its library, can hold.
_LONGEST = {"jpg": 65_500, "webp": 16_383}


class ModelFacts(Protocol):
    """What a result says of the model that made it."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """The picture that a result is about: its item's path and page, its size in pixels."""

    input_path: str | None
    page_index: int | None
    height: int
    width: int


def image_suffix(image_format: str, input_format: str | None, longest: int) -> str:
    """The suffix of the drawn picture: "jpg", or for "input" that of the input's own format where it can be written.

    `longest` is the picture's longest side: one too long for the format is written as "png".
    """
    own = "jpg" if image_format == "jpg" or input_format == "jpeg" else input_format
    return own if own in _WRITERS and longest <= _LONGEST.get(own, longest) else "png"


def encode_image(image: Image, suffix: str) -> bytes:
    """The picture as a file of the format that `image_suffix` names."""
    return cv2.imencode(f".{suffix}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _WRITERS[suffix])[1].tobytes()


def encode_result(result: ResultDocument) -> bytes:
    """The bytes of `_res.json`."""
    return to_json(result)


def result_document(
    subject: Subject, instances: Instances, model: ModelFacts, threshold: float, mask_format: MaskFormat = "rle"
) -> ResultDocument:
    """The result's document. Raises ResultTooLarge where the dense form would not be bounded."""
    masks = _MASKS[mask_format](instances, subject.height, subject.width)
    return result_with_masks(subject, instances, model, threshold, masks)


def result_with_masks(
    subject: Subject, instances: Instances, model: ModelFacts, threshold: float, masks: list[Any]
) -> ResultDocument:
    """The result's document with masks in a form of the caller's."""
    boxes = [
        Box(cls_id=class_id, label=model.labels[class_id], score=score, coordinate=coordinate)
        for class_id, score, coordinate in zip(
            instances.class_ids.tolist(),
            shortest_decimals(instances.scores),
            shortest_decimals(instances.boxes),
            strict=True,
        )
    ]
    return ResultDocument(
        input_path=subject.input_path,
        page_index=subject.page_index,
        boxes=boxes,
        masks=masks,
        width=subject.width,
        height=subject.height,
        model={"name": model.name, "digest": model.digest},
        threshold=threshold,
    )


def seed_instances(instances: Instances, labels: tuple[str, ...], height: int, width: int) -> list[SeedInstance]:
    """The instances as the drop-in endpoint answers them: each mask is the RLE of its crop."""
    return [
        SeedInstance(
            bbox=box,
            categoryId=class_id,
            categoryName=labels[class_id],
            score=score,
            mask={"rleResult": _rle_of(crop), "size": list(crop.shape)},
        )
        for box, class_id, score, crop in zip(
            shortest_decimals(instances.boxes),
            instances.class_ids.tolist(),
            shortest_decimals(instances.scores),
            crops(instances, height, width),
            strict=True,
        )
    ]


def shortest_decimals(values: NDArray[np.float32]) -> Any:
    """The array as (nested) lists of floats, each the shortest decimal that is still the same float32."""
    return values.astype("U").astype(np.float64).tolist()


def crops(instances: Instances, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
    """Each mask inside its box with the edges rounded half to even: uint8 [h,w] of 0 and 1."""
    return (
        mask.crop(Window.rounded(box, height, width))
        for mask, box in zip(instances.masks, instances.boxes.tolist(), strict=True)
    )


def _rle_of(crop: NDArray[np.uint8]) -> str:
    return counts_text(coco.encode(np.asfortranarray(crop)))


def _rles(instances: Instances, height: int, width: int) -> list[Any]:
    return [{"size": [height, width], "counts": mask.rle(height, width)} for mask in instances.masks]


def _polygons(instances: Instances, height: int, width: int) -> list[Any]:
    return [{"size": [height, width], "polygons": polygons(mask)} for mask in instances.masks]


def _dense(instances: Instances, height: int, width: int) -> list[Any]:
    windows = (Window.rounded(box, height, width) for box in instances.boxes.tolist())
    pixels = sum(window.width * window.height for window in windows)
    if pixels > MOST_DENSE_PIXELS:
        raise ResultTooLarge(
            f"the dense masks of this picture have {pixels:,} pixels, more than {MOST_DENSE_PIXELS:,}; "
            f'ask for mask_format "rle" or "polygon"'
        )
    return [crop.tolist() for crop in crops(instances, height, width)]


_MASKS: dict[MaskFormat, Callable[[Instances, int, int], list[Any]]] = {
    "rle": _rles,
    "polygon": _polygons,
    "dense": _dense,
}
