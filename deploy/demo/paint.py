"""Colours and textures: what fills a shape or a background."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]
Colour = npt.NDArray[np.float64]


def colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """Return an RGB colour, float64 [3] in 0..255, of any hue within the given saturation and value (0..1)."""
    hue, s, v = rng.uniform(0.0, 6.0), rng.uniform(*saturation), rng.uniform(*value)
    wheel = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return np.asarray(255.0 * v * (1.0 - s + s * wheel))


def textured(rng: np.random.Generator, shape: tuple[int, int], first: Colour, second: Colour) -> Picture:
    """Return uint8 [height,width,3] RGB: a texture drawn at random that runs between two colours."""
    fields = tuple(_FIELDS.values())
    field = fields[int(rng.integers(len(fields)))](rng, shape)
    steps = np.linspace(0.0, 1.0, 256)[:, None]
    table = np.clip(first * (1.0 - steps) + second * steps, 0, 255).astype(np.uint8)
    return np.take(table, (field * 255.0).astype(np.uint8), axis=0)


def _ramps(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Field, Field]:
    height, width = shape
    angle = rng.uniform(0.0, 2 * np.pi)
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(width / 2)
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(height / 2)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _wave(ramp: Field, period: float, phase: float, hardness: float) -> Field:
    wave = np.sin(ramp * np.float32(2 * np.pi / period) + np.float32(phase))
    return np.asarray(np.clip(wave * np.float32(hardness) + np.float32(0.5), 0.0, 1.0), np.float32)


def _plain(_: np.random.Generator, shape: tuple[int, int]) -> Field:
    return np.zeros(shape, np.float32)


def _gradient(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    ramp, _ = _ramps(rng, shape)
    return np.asarray(np.clip(ramp / np.float32(max(shape)) + np.float32(0.5), 0.0, 1.0), np.float32)


def _glow(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    along, across = _ramps(rng, shape)
    shift = np.float32(rng.uniform(-0.3, 0.3) * max(shape))
    distance = cv2.magnitude(along - shift, across + shift)
    return np.asarray(np.clip(distance / np.float32(max(shape)), 0.0, 1.0), np.float32)


def _stripes(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    ramp, _ = _ramps(rng, shape)
    return _wave(ramp, rng.uniform(5.0, 28.0), rng.uniform(0.0, 6.0), rng.uniform(0.5, 2.0))


def _checks(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    period = rng.uniform(10.0, 40.0)
    along, across = (_wave(ramp, period, 0.0, 2.0) for ramp in _ramps(rng, shape))
    return np.asarray(np.abs(along - across), np.float32)


def _clouds(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    height, width = shape
    field = np.zeros(shape, np.float32)
    for cell, weight in ((64, 0.5), (24, 0.3), (8, 0.2)):
        grid = rng.random((height // cell + 2, width // cell + 2), dtype=np.float32)
        field += cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(weight)
    return np.asarray(np.clip(field * 1.6 - 0.3, 0.0, 1.0), np.float32)


def _speckle(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    height, width = shape
    cell = int(rng.integers(2, 6))
    grid = rng.random((height // cell + 1, width // cell + 1), dtype=np.float32)
    return np.asarray(np.clip(cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR), 0.0, 1.0), np.float32)


_FIELDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Field]] = {
    "plain": _plain,
    "gradient": _gradient,
    "glow": _glow,
    "stripes": _stripes,
    "checks": _checks,
    "clouds": _clouds,
    "speckle": _speckle,
}
