"""Manifest: what has to be known of a model beside its tensors; the content of model.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from maskmill.shared.errors import ModelInvalid

Checked = TypeVar("Checked", bound=BaseModel)

Side = Annotated[int, Field(ge=1, le=1 << 13)]
"""Pixels; a network's input of more would not fit into memory."""

Positive = Annotated[float, Field(gt=0)]


def _storable(label: str) -> str:
    # A ValueError where it holds half of a surrogate pair, which no JSON file can.
    label.encode()
    return label


Label = Annotated[str, AfterValidator(_storable)]


class Frozen(BaseModel):
    """Immutable, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Normalisation(Frozen):
    """Pixel to tensor: (value / scale - mean) / std for each channel, after padding with `pad`."""

    scale: float = Field(default=255.0, gt=0)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    channels: Literal["RGB", "BGR"] = "RGB"
    pad: int = Field(default=114, ge=0, le=255)


class Manifest(Frozen):
    """model.yaml: the family, the input's [height, width], the classes in order, and the defaults."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    family: str
    input_size: tuple[Side, Side] | None = None
    labels: tuple[Label, ...] = Field(min_length=1)
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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelInvalid(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelInvalid(f"{path}: not YAML: {_said(error)}") from None
    return checked(kind, content, str(path))


def checked(kind: type[Checked], content: Any, where: str) -> Checked:
    """The keys and values read at `where` as a value of that kind; raises ModelInvalid naming the key that is wrong."""
    if not isinstance(content, dict):
        raise ModelInvalid(f"{where}: expected keys and their values, got {content!r:.40}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        # YAML knows lists.
        raise ModelInvalid(f"{where}: {problems.replace('tuple', 'list').replace('Tuple', 'List')}") from None


def _said(error: Exception) -> str:
    """What and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0]
