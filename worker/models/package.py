"""Package: where a model's files lie, found by its name and checked against their hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from maskmill.shared.errors import ModelInvalid
from maskmill.shared.jobs.records import model_name
from maskmill.worker.models import manifest
from maskmill.worker.models.manifest import Manifest

EMBEDDED = Path(__file__).parent
PADDLEX_WEIGHTS, PADDLEX_CONFIG = "inference.onnx", "inference.yml"
WEIGHTS = ("model.onnx", PADDLEX_WEIGHTS)
MANIFEST = "model.yaml"
MORE = "`maskmill models list` shows those that are here, `models pull` and `models add --paddlex DIR` bring others"


@dataclass(frozen=True)
class Package:
    """An ONNX file on disk, its sha256, and its manifest where there is a model.yaml beside it."""

    name: str
    weights: Path
    digest: str
    manifest: Manifest | None

    @property
    def family(self) -> str | None:
        """The family where the files beside the ONNX file tell it; else its metadata may."""
        if self.manifest is not None:
            return self.manifest.family
        return "paddlex" if (self.weights.parent / PADDLEX_CONFIG).is_file() else None


def find(name: str, models_dir: Path) -> Package:
    """The package of that name: embedded, in `models_dir` (a folder, or NAME.onnx), or at that path.

    Raises ModelInvalid when there is none, or when its sha256 is not the one in its model.yaml.
    """
    tried = [EMBEDDED / name, models_dir / name, models_dir / f"{name}.onnx", Path(name)]
    for place in tried:
        weights = _weights(place)
        if weights is not None:
            return _open(place, weights)
        if (place / PADDLEX_CONFIG).is_file():
            raise ModelInvalid(
                f"{place}: no ONNX file; maskmill models add --paddlex {place} makes one of Paddle's format"
            )
    places = ", ".join(dict.fromkeys(map(str, tried)))
    raise ModelInvalid(f"no model {name!r}: looked for an ONNX file in {places}; {MORE}")


def embedded() -> tuple[str, ...]:
    """Names of the models that Maskmill carries."""
    return tuple(sorted(path.parent.name for path in EMBEDDED.glob(f"*/{MANIFEST}")))


def _weights(place: Path) -> Path | None:
    if place.is_file() and place.suffix == ".onnx":
        return place
    return next((place / file for file in WEIGHTS if (place / file).is_file()), None)


def _open(place: Path, weights: Path) -> Package:
    beside = place / MANIFEST
    stated = manifest.read(beside) if beside.is_file() else None
    digest = _sha256(weights)
    if stated is not None and stated.sha256 not in (None, digest):
        raise ModelInvalid(f"{weights}: sha256 expected {stated.sha256} (from {MANIFEST}), got {digest}")
    return Package(name=model_name(place), weights=weights, digest=digest, manifest=stated)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelInvalid(f"{path}: {error.strerror}") from None
