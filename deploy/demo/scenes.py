"""Pictures of overlapping shapes with the exact mask of each: what `shapes` learns from and is measured on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from maskmill.deploy.demo import paint
from maskmill.deploy.demo.outlines import CLASSES, outline

__all__ = ["CLASSES", "Scene", "draw_scene"]

MOST_SHAPES = 9
SMALLEST, LARGEST = 0.16, 0.50
"""Diameter of a shape as a share of the picture's shorter side."""
LEAST_VISIBLE = 0.55
"""Share of a shape that later shapes and the picture's border leave to be seen."""
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    image: uint8 [height,width,3] RGB. masks: bool [n,height,width], the visible part of each shape, disjoint.
    class_ids: int64 [n], positions in CLASSES.
    """

    image: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    class_ids: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Shape:
    """One shape on its own patch: alpha uint8 [h,w], the patch's place in the picture, contours within the patch."""

    class_id: int
    alpha: npt.NDArray[np.uint8]
    left: int
    top: int
    contours: list[npt.NDArray[np.int32]]


class _Canvas:
    """The picture as it grows, and which shape each pixel shows (0: none)."""

    def __init__(self, image: npt.NDArray[np.uint8]) -> None:
        self.image = image
        self.owner = np.zeros(image.shape[:2], np.uint8)
        self.areas = [0]
        self.class_ids: list[int] = []

    def window(self, shape: _Shape) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return where the patch lies in the picture, and which part of the patch that is."""
        height, width = shape.alpha.shape
        rows = max(shape.top, 0), min(shape.top + height, self.image.shape[0])
        columns = max(shape.left, 0), min(shape.left + width, self.image.shape[1])
        there = slice(*rows), slice(*columns)
        here = (
            slice(rows[0] - shape.top, rows[1] - shape.top),
            slice(columns[0] - shape.left, columns[1] - shape.left),
        )
        return there, here

    def admits(self, shape: _Shape) -> bool:
        """Tell whether the shape, laid on top, leaves it and every earlier one visible enough."""
        there, here = self.window(shape)
        inside = shape.alpha[here] > 127
        whole = int(np.count_nonzero(shape.alpha > 127))
        if np.count_nonzero(inside) < LEAST_VISIBLE * whole:
            return False
        shown = np.bincount(self.owner.ravel(), minlength=len(self.areas))
        hidden = np.bincount(self.owner[there][inside], minlength=len(self.areas))
        least = LEAST_VISIBLE * np.array(self.areas)
        return bool(np.all((shown - hidden)[1:] >= least[1:]))

    def lay(self, shape: _Shape, rng: np.random.Generator) -> None:
        """Paint the shape on top of all that is there."""
        there, here = self.window(shape)
        alpha = shape.alpha[here]
        if rng.random() < 0.4:
            self._shade(there, alpha, rng)
        seen = self.image[there]
        colour = _contrasting(rng, seen[alpha > 127].mean(axis=0))
        second = np.clip(colour * rng.uniform(0.55, 1.45) + rng.uniform(-20, 20, 3), 0, 255)
        fill = paint.textured(rng, shape.alpha.shape, colour, second)
        if rng.random() < 0.4:
            edge = tuple(float(part) for part in colour * rng.uniform(0.2, 0.6))
            cv2.polylines(fill, shape.contours, True, edge, int(rng.integers(2, 7)), cv2.LINE_AA, _SUBPIXEL_BITS)
        share = alpha[:, :, None].astype(np.float32) / 255.0
        self.image[there] = (seen + (fill[here] - seen.astype(np.float32)) * share + 0.5).astype(np.uint8)
        self.class_ids.append(shape.class_id)
        self.areas.append(int(np.count_nonzero(shape.alpha > 127)))
        self.owner[there][alpha > 127] = len(self.class_ids)

    def _shade(self, there: tuple[slice, slice], alpha: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
        shift = np.array([[1, 0, rng.uniform(-4, 4)], [0, 1, rng.uniform(-4, 4)]], np.float32)
        cast = cv2.warpAffine(alpha, shift, (alpha.shape[1], alpha.shape[0]))
        soft = cv2.GaussianBlur(cast, (0, 0), 2.0)[:, :, None].astype(np.float32) / 255.0
        self.image[there] = (self.image[there] * (1.0 - 0.5 * soft)).astype(np.uint8)


def draw_scene(seed: int, width: int, height: int) -> Scene:
    """Draw the picture of this seed and size, in pixels: the same call gives the same scene."""
    rng = np.random.default_rng([seed, width, height])
    canvas = _Canvas(_background(rng, height, width))
    wanted = int(rng.integers(2, MOST_SHAPES + 1))
    for _ in range(3 * wanted):
        shape = _shape(rng, width, height)
        if canvas.admits(shape):
            canvas.lay(shape, rng)
        if len(canvas.class_ids) == wanted:
            break
    masks = canvas.owner[None] == np.arange(1, len(canvas.class_ids) + 1, dtype=np.uint8)[:, None, None]
    return Scene(_grain(rng, canvas.image), masks, np.array(canvas.class_ids, np.int64))


def _shape(rng: np.random.Generator, width: int, height: int) -> _Shape:
    class_id = int(rng.integers(len(CLASSES)))
    radius = 0.5 * min(width, height) * np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
    angle = rng.uniform(0.0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * radius
    centre = rng.uniform(0.06, 0.94, 2) * (width, height)
    contours = [points @ turn.T + centre for points in outline(class_id, rng)]
    low = np.floor(contours[0].min(axis=0)).astype(int) - 5
    size = np.ceil(contours[0].max(axis=0)).astype(int) + 6 - low
    fixed = [np.round((points - low) * 2**_SUBPIXEL_BITS).astype(np.int32) for points in contours]
    alpha = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(alpha, fixed, 255.0, cv2.LINE_AA, _SUBPIXEL_BITS)
    return _Shape(class_id, alpha, int(low[0]), int(low[1]), fixed)


def _contrasting(rng: np.random.Generator, against: npt.NDArray[np.float64]) -> paint.Colour:
    offers = [paint.colour(rng, (0.15, 1.0), (0.25, 1.0)) for _ in range(4)]
    distances = [float(np.linalg.norm(offer - against)) for offer in offers]
    return offers[next((i for i, far in enumerate(distances) if far > 110), int(np.argmax(distances)))]


def _background(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    first = paint.colour(rng, (0.0, 0.6), (0.15, 1.0))
    second = np.clip(first + rng.uniform(-70, 70, 3), 0, 255)
    image = paint.textured(rng, (height, width), first, second)
    for _ in range(int(rng.integers(0, 9))):
        ends = rng.uniform(0, 1, (2, 2)) * (width, height)
        start, stop = (tuple(int(part) for part in end) for end in ends)
        tone = tuple(float(part) for part in rng.uniform(0, 255, 3))
        cv2.line(image, start, stop, tone, int(rng.integers(1, 4)), cv2.LINE_AA)
    return image


def _grain(rng: np.random.Generator, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.0)), np.uint8)
    noise = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    strength = rng.uniform(0.0, 0.16)
    return np.asarray(cv2.addWeighted(image, 1.0, noise, strength, -127.5 * strength), np.uint8)
