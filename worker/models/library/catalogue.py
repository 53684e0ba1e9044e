"""Catalogue: models that can be pulled by name, each with where to get it and what it must be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel, StringConstraints

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.models.manifest import Frozen, Manifest, read_as

SHIPPED = Path(__file__).with_name("catalogue.yaml")

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class CatalogueModel(Frozen):
    """A model's ONNX file by size and sha256, its URLs in the order in which they are tried, and its model.yaml."""

    about: str = ""
    licence: str
    size: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    urls: tuple[str, ...] = Field(min_length=1)
    model: Manifest

    def manifest(self) -> Manifest:
        """The model.yaml, with hash and licence."""
        return self.model.model_copy(update={"sha256": self.sha256, "licence": self.licence})


class Catalogue(RootModel[dict[Name, CatalogueModel]]):
    """The content of a catalogue file."""


def catalogue(more: Path | None) -> dict[str, CatalogueModel]:
    """The shipped entries by name, and those of the file `more`, which replace shipped ones of the same name.

    Raises ModelInvalid naming the file and the key that is wrong.
    """
    entries = dict(read_as(Catalogue, SHIPPED).root)
    if more is None:
        return entries
    if not more.is_file():
        raise ModelInvalid(f"{more}: no such file; MASKMILL_CATALOGUE names it")
    return entries | read_as(Catalogue, more).root
