"""Result: what `create_pipeline(...).predict` gives for one picture, used as PaddleX's results are used."""

from __future__ import annotations

import io
import json
import logging
import mimetypes
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image as Pillow

from maskmill.shared.errors import InvalidRequest
from maskmill.shared.jobs.records import Failure, MaskFormat
from maskmill.worker.images.image import Image
from maskmill.worker.masks.segmented import Segmented
from maskmill.worker.models import Model
from maskmill.worker.predict.saving import writing_to
from maskmill.worker.predict.segmenter import AnyItem
from maskmill.worker.rendering.draw import draw
from maskmill.worker.rendering.encode import (
    Subject,
    crops,
    encode_image,
    image_suffix,
    result_document,
    result_with_masks,
)

# The format that a file's name claims by its suffix, of those that can be written.
FORMATS = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".bmp": "bmp",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
HIDDEN = "..."

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A drawn picture as the bytes of a file with that suffix, "jpg" or "png" or another of `image_suffix`."""

    suffix: str
    data: bytes

    @classmethod
    def encoded(cls, drawn: Image, path: str) -> Picture:
        """The picture in the format that a file's name claims, or as PNG."""
        suffix = image_suffix("input", FORMATS.get(PurePosixPath(path).suffix.lower()), max(drawn.shape))
        return cls(suffix, encode_image(drawn, suffix))

    def is_for(self, suffix: str) -> bool:
        """Whether a name with that suffix claims this format."""
        return FORMATS.get(suffix.lower()) == FORMATS[f".{self.suffix}"]

    def decoded(self) -> Pillow.Image:
        """The picture again."""
        with Pillow.open(io.BytesIO(self.data)) as picture:
            return picture.convert("RGB")


class Result(dict[str, Any]):
    """The document of `_res.json` as a mapping, and the drawn picture.

    `masks[i]` belongs to `boxes[i]`; dense ones are arrays uint8 [h,w] of 0 and 1. The result of a picture that
    failed has no boxes and an `error`, and can be printed and saved like any other.
    """

    def __init__(self, document: dict[str, Any], name: str, picture: Picture | None = None) -> None:
        super().__init__(document)
        self.name = name
        self._picture = picture

    @property
    def error(self) -> dict[str, str] | None:
        """Stage, code and reason of the failure, or None."""
        return self.get("error")

    @property
    def json(self) -> dict[str, Any]:
        """{"res": the document}, of plain Python values."""
        return {"res": dict(self) | {"masks": [_plain(mask) for mask in self["masks"]]}}

    @property
    def img(self) -> dict[str, Pillow.Image]:
        """{"res": the drawn picture}, or nothing where there is none."""
        return {"res": self._picture.decoded()} if self._picture else {}

    def print(
        self,
        format_json: bool = True,
        indent: int = 4,
        ensure_ascii: bool = False,
        *,
        json_format: bool | None = None,
    ) -> None:
        """Print the document without its masks: as JSON, or on one line as Python writes it.

        PaddleX's tutorial says `format_json`, its code `json_format`: both are taken.
        """
        shown = {"res": dict(self) | {"masks": HIDDEN}}
        as_json = format_json if json_format is None else json_format
        print(json.dumps(shown, indent=indent, ensure_ascii=ensure_ascii) if as_json else shown)

    def save_all(self, save_path: str | Path | None = None) -> None:
        """Write the document and the drawn picture into the folder `save_path`."""
        self.save_to_json(save_path)
        self.save_to_img(save_path)

    def save_to_json(
        self, save_path: str | Path | None = None, indent: int | None = 4, ensure_ascii: bool = False
    ) -> None:
        """Write the document to the file `save_path`, or as NAME_res.json into that folder.

        Raises InvalidRequest where no path is given, and CannotStart where it cannot be written to.
        """
        target = self._target(save_path, "application/json", ".json")
        text = json.dumps(self.json["res"], indent=indent, ensure_ascii=ensure_ascii)
        with writing_to(target):
            target.write_text(text, encoding="utf-8")

    def save_to_img(self, save_path: str | Path | None = None) -> None:
        """Write the drawn picture to the file `save_path`, or as NAME_res and its input's suffix into that folder.

        Raises InvalidRequest where no path is given, or a file of a kind that is not written, and CannotStart where it
        cannot be written to.
        """
        if self._picture is None:
            reason = self.error["reason"] if self.error else "predict was called with pictures=False"
            logger.warning("no picture: %s", with_input(self["input_path"] or self.name, reason))
            return
        own = PurePosixPath(self["input_path"] or "").suffix
        target = self._target(save_path, "image/", own if self._picture.is_for(own) else f".{self._picture.suffix}")
        with writing_to(target):
            if self._picture.is_for(target.suffix):
                target.write_bytes(self._picture.data)
            else:
                _save_as(self._picture.decoded(), target)

    def _target(self, save_path: str | Path | None, kind: str, suffix: str) -> Path:
        if save_path is None:
            raise InvalidRequest("where to save is missing: name a folder or a file, as in save_path='output'")
        path = Path(save_path)
        guessed = mimetypes.guess_type(path)[0] or ""
        target = path if guessed.startswith(kind) else path / f"{self.name}_res{suffix}"
        with writing_to(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        return target


@dataclass(frozen=True)
class ResultMaker:
    """How results are made of what was found: `make` is pure computation, for any thread."""

    mask_format: MaskFormat
    pictures: bool

    def make(self, found: Segmented, item: AnyItem, model: Model) -> Result:
        """The result of `item`; the picture is drawn on in place. Its name is the item's own until it is given one."""
        height, width = found.image.shape[:2]
        subject = Subject(item.input_path, item.page_index, height, width)
        if self.mask_format == "dense":
            masks = list(crops(found.instances, height, width))
            facts = result_with_masks(subject, found.instances, model, found.threshold, masks)
        else:
            facts = result_document(subject, found.instances, model, found.threshold, self.mask_format)
        return Result({**facts}, item.name, _drawn(found, item, model) if self.pictures else None)


def _drawn(found: Segmented, item: AnyItem, model: Model) -> Picture:
    drawn = draw(found.image, found.instances, model.labels, in_place=True)
    return Picture.encoded(drawn, item.input_path or "")


def failed_result(item: AnyItem, failure: Failure) -> Result:
    """The result of an input that failed: no boxes, no masks, and why."""
    origin = {"input_path": item.input_path, "page_index": item.page_index}
    return Result({**origin, "boxes": [], "masks": [], "error": failure.model_dump()}, item.name)


def _save_as(picture: Pillow.Image, target: Path) -> None:
    try:
        picture.save(target)
    except (KeyError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InvalidRequest(
            f"{target}: no picture is written as {target.suffix}; use one of {', '.join(FORMATS)}"
        ) from None


def with_input(input_path: str, reason: str) -> str:
    """The input and what is wrong with it; some reasons name it themselves."""
    return reason if reason.startswith(input_path) else f"{input_path}: {reason}"


def _plain(mask: Any) -> Any:
    return mask.tolist() if isinstance(mask, np.ndarray) else mask
