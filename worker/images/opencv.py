"""Encoded pictures to pixels by OpenCV, pixels turned upright, and frames that are pixels already."""

from __future__ import annotations

import cv2
import numpy as np

from maskmill.shared.errors import EmptyInput, TooManyPixels, UnsupportedFormat
from maskmill.shared.settings import Settings
from maskmill.worker.images.image import Frame, Image

_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}


def imdecode(data: bytes) -> Image | None:
    """Pixels uint8 [H, W, 3] RGB as stored, not turned upright, without alpha; None where they cannot be read."""
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    # imdecode returns None for what it cannot read, which its type stubs do not say.
    picture: Image | None = decoded  # type: ignore[assignment]
    return picture


def frame_size(frame: Frame, settings: Settings) -> int:
    """How many pixels the frame has; raises an InputError for an array that is none."""
    channels = 1 if frame.ndim == 2 else frame.shape[-1]
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or channels not in _TO_RGB:
        found = f"{frame.dtype}{list(frame.shape)}"
        raise UnsupportedFormat(f"an array must be uint8 [height, width, 3] in BGR, or 4 or no channels; got {found}")
    count = frame.size // channels
    if not count:
        raise EmptyInput(f"the array {list(frame.shape)} has no pixels at all")
    if count > settings.max_pixels:
        most = f"{settings.max_pixels} are the most allowed (MASKMILL_MAX_PIXELS)"
        raise TooManyPixels(f"the array has {count} pixels, and {most}")
    return count


def image_of(frame: Frame) -> Image:
    """The frame as an Image of its own memory; alpha is left out."""
    channels = 1 if frame.ndim == 2 else frame.shape[-1]
    return np.asarray(cv2.cvtColor(frame, _TO_RGB[channels]), np.uint8)


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
