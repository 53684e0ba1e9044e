"""`inference.yml`: what PaddleX keeps of a model beside its tensors."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.models.families.paddle_steps import Step
from maskmill.worker.models.manifest import read_as
from maskmill.worker.models.package import PADDLEX_CONFIG


class Names(BaseModel):
    """The section `Global`."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    model_name: str = ""


class Config(BaseModel):
    """What is read of an `inference.yml`; its other keys do not matter here."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    names: Names = Field(default=Names(), alias="Global")
    arch: str = ""
    draw_threshold: float = Field(default=0.5, gt=0, lt=1)
    steps: tuple[Step, ...] = Field(alias="Preprocess")
    label_list: tuple[str, ...] = Field(min_length=1)

    @classmethod
    def beside(cls, weights: Path) -> Config:
        """That of the directory in which the ONNX file lies; raises ModelInvalid naming the key that is wrong."""
        path = weights.parent / PADDLEX_CONFIG
        if not path.is_file():
            raise ModelInvalid(f"{path}: needed of a PaddleX model, for its labels and Preprocess steps")
        return read_as(cls, path)
