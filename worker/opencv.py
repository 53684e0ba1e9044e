"""Encoded pictures to pixels by OpenCV, and pixels turned upright."""

from __future__ import annotations

import cv2
import numpy as np

from shared.settings import Settings
from worker.instances import Image


def opencv_environment(settings: Settings) -> dict[str, str]:
    """Variables that OpenCV reads when it is loaded: its own pixel limit, a second wall behind ours."""
    return {"OPENCV_IO_MAX_IMAGE_PIXELS": str(settings.max_pixels)}


def imdecode(data: bytes) -> Image | None:
    """Pixels uint8 [H, W, 3] RGB as stored, not turned upright, without alpha; None where they cannot be read."""
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    # imdecode returns None for what it cannot read, which its type stubs do not say.
    picture: Image | None = decoded  # type: ignore[assignment]
    return picture


def upright(picture: Image, orientation: int) -> Image:
    """The picture as its Exif orientation, 1 to 8 (Exif 2.32, 4.6.4, tag 0x0112), means it to be seen."""
    match orientation:
        case 2:
            turned = cv2.flip(picture, 1)
        case 3:
            turned = cv2.rotate(picture, cv2.ROTATE_180)
        case 4:
            turned = cv2.flip(picture, 0)
        case 5:
            turned = cv2.transpose(picture)
        case 6:
            turned = cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.flip(cv2.transpose(picture), -1)
        case 8:
            turned = cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return picture
    return np.asarray(turned, np.uint8)
