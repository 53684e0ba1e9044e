"""Manifest: what has to be known of a model beside its tensors; the content of model.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ModelInvalid

Checked = TypeVar("Checked", bound=BaseModel)


class Frozen(BaseModel):
    """Immutable, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Normalisation(Frozen):
    """Pixel to tensor: (value / scale - mean) / std for each channel, after padding with `pad`."""

    scale: float = Field(default=255.0, gt=0)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: Literal["RGB", "BGR"] = "RGB"
    pad: int = Field(default=114, ge=0, le=255)


class Manifest(Frozen):
    """model.yaml: the family, the input's [height, width], the classes in order, and the defaults."""

    family: str
    input_size: tuple[int, int] | None = None
    labels: tuple[str, ...] = Field(min_length=1)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    nms_iou: float = Field(default=0.7, gt=0, lt=1)
    normalisation: Normalisation = Normalisation()
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    licence: str | None = None


def read(path: Path) -> Manifest:
    """The manifest in a model.yaml; raises ModelInvalid naming the key that is wrong."""
    return read_as(Manifest, path)


def read_as(kind: type[Checked], path: Path) -> Checked:
    """A YAML file as a value of that kind; raises ModelInvalid naming the key that is wrong."""
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelInvalid(f"{path}: not YAML: {error}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'file'}: {p['msg']}" for p in error.errors())
        raise ModelInvalid(f"{path}: {problems}") from None
