"""Segmented: a picture and what was found on it."""

from __future__ import annotations

from dataclasses import dataclass

from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances


@dataclass(frozen=True)
class Segmented:
    """An image (uint8 [H,W,3] RGB), what is kept of what was found on it, and the format that it came in.

    `threshold` is the general one; classes may have been given their own.
    """

    image: Image
    instances: Instances
    threshold: float
    format: str
