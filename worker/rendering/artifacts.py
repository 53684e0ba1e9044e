"""Render: what was found on an item's picture as the artifacts its job asks for. Pure computation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from maskmill.shared.jobs.records import Options
from maskmill.shared.jobs.results import image_name, json_name, to_json
from maskmill.worker.masks.segmented import Segmented
from maskmill.worker.models import Model
from maskmill.worker.rendering.draw import draw
from maskmill.worker.rendering.encode import (
    Subject,
    encode_image,
    encode_result,
    image_suffix,
    result_document,
    shortest_decimals,
)

CONTENT_TYPES = {
    "json": "application/json",
    "jpg": "image/jpeg",
    "png": "image/png",
    "bmp": "image/bmp",
    "webp": "image/webp",
    "tiff": "image/tiff",
}


class Named(Protocol):
    """What is asked of an item: its number and name, and where it is from."""

    @property
    def number(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def input_path(self) -> str | None: ...
    @property
    def page_index(self) -> int | None: ...


@dataclass(frozen=True)
class Artifact:
    """A stored object to be: its name below artifacts/, its bytes and their type."""

    name: str
    data: bytes
    content_type: str


@dataclass(frozen=True)
class Rendered:
    """The artifacts of an item by kind ("json", "image"), its line for the annotations file, and its facts."""

    artifacts: dict[str, Artifact]
    annotation: bytes
    width: int
    height: int
    instances: int


def render(segmented: Segmented, item: Named, options: Options, model: Model) -> Rendered:
    """The artifacts of `item`; the picture is drawn on in place. Raises ResultTooLarge for too large a dense form."""
    height, width = segmented.image.shape[:2]
    artifacts = {}
    if options.save_json:
        subject = Subject(item.input_path, item.page_index, height, width)
        result = result_document(subject, segmented.instances, model, segmented.threshold, options.mask_format)
        artifacts["json"] = Artifact(json_name(item.name), encode_result(result), CONTENT_TYPES["json"])
    annotation = _annotation(segmented, item)
    if options.save_image:
        suffix = image_suffix(options.image_format, segmented.format, max(height, width))
        drawn = draw(segmented.image, segmented.instances, model.labels, in_place=True)
        artifacts["image"] = Artifact(image_name(item.name, suffix), encode_image(drawn, suffix), CONTENT_TYPES[suffix])
    return Rendered(artifacts, annotation, width, height, len(segmented.instances))


def _annotation(segmented: Segmented, item: Named) -> bytes:
    """The item's line of the annotations file: its instances in COCO's terms, for exports."""
    height, width = segmented.image.shape[:2]
    instances = segmented.instances
    found = [
        {"category_id": class_id, "score": score, "box": box, "counts": mask.rle(height, width), "area": mask.area}
        for class_id, score, box, mask in zip(
            instances.class_ids.tolist(),
            shortest_decimals(instances.scores),
            shortest_decimals(instances.boxes),
            instances.masks,
            strict=True,
        )
    ]
    return to_json({"number": item.number, "name": item.name, "size": [height, width], "instances": found})
