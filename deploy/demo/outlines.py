"""The outline of each class of shape, drawn about the origin with a radius near one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Outline = list[Points]

CLASSES = ("circle", "rectangle", "triangle", "star", "cross", "ring", "heart", "crescent")


def outline(class_id: int, rng: np.random.Generator) -> Outline:
    """Return one shape of the class: closed contours float64 [n,2], of which a second one is a hole."""
    return _DRAWN[CLASSES[class_id]](rng)


def _arc(start: float, stop: float, count: int) -> Points:
    angles = np.linspace(start, stop, count, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _circle(_: np.random.Generator) -> Outline:
    return [_arc(0.0, 2 * np.pi, 72)]


def _rectangle(rng: np.random.Generator) -> Outline:
    half = rng.uniform(0.45, 1.0)
    corners = np.array([[-1.0, -half], [1.0, -half], [1.0, half], [-1.0, half]])
    return [corners / np.hypot(1.0, half) * 1.1]


def _triangle(rng: np.random.Generator) -> Outline:
    angles = np.array([0.0, 120.0, 240.0]) + rng.uniform(-14.0, 14.0, 3)
    return [np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1) * 1.15]


def _star(rng: np.random.Generator) -> Outline:
    points = _arc(0.0, 2 * np.pi, 10) * 1.15
    points[1::2] *= rng.uniform(0.38, 0.52)
    return [points]


def _cross(rng: np.random.Generator) -> Outline:
    arm = rng.uniform(0.26, 0.38)
    quarter = np.array([[1.0, -arm], [1.0, arm], [arm, arm]])
    turns = [np.array([[0, 1], [-1, 0]]), np.array([[-1, 0], [0, -1]]), np.array([[0, -1], [1, 0]])]
    return [np.concatenate([quarter, *(quarter @ turn for turn in turns)])]


def _ring(rng: np.random.Generator) -> Outline:
    edge = _arc(0.0, 2 * np.pi, 72)
    return [edge, edge[::-1] * rng.uniform(0.45, 0.68)]


def _heart(_: np.random.Generator) -> Outline:
    t = np.linspace(0.0, 2 * np.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([x, 2.0 - y], axis=1) / 15.5]


def _crescent(rng: np.random.Generator) -> Outline:
    bite, shift = rng.uniform(0.75, 0.92), rng.uniform(0.42, 0.58)
    tip = np.arccos((1.0 - bite**2 + shift**2) / (2.0 * shift))
    turn = np.arctan2(np.sin(tip), np.cos(tip) - shift)
    outer = _arc(tip, 2 * np.pi - tip, 60)
    inner = _arc(turn, 2 * np.pi - turn, 48)[::-1] * bite + (shift, 0.0)
    return [np.concatenate([outer, inner])]


_DRAWN: dict[str, Callable[[np.random.Generator], Outline]] = {
    "circle": _circle,
    "rectangle": _rectangle,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "crescent": _crescent,
}
