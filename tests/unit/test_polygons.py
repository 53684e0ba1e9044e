"""Polygons follow pixel edges, so that filling them gives the mask back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as coco

from maskmill.worker.masks.mask import Mask
from maskmill.worker.masks.polygons import polygons

# pycocotools 2.0.11 decodes through an array protocol of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BITMAPS = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


def filled(ring: list[int], height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(coco.decode(coco.frPyObjects([ring], height, width))[..., 0], np.uint8)


@settings(max_examples=300)
@given(BITMAPS, st.integers(0, 5), st.integers(0, 5))
def test_outer_rings_less_their_holes_fill_exactly_the_mask(bitmap: NDArray[np.uint8], x: int, y: int) -> None:
    mask = Mask.from_bitmap(bitmap, x, y)
    if mask is None:
        return
    height, width = y + bitmap.shape[0] + 2, x + bitmap.shape[1] + 2
    whole = np.zeros((height, width), np.uint8)
    for outer, *holes in polygons(mask):
        part = filled(outer, height, width)
        for hole in holes:
            inside = filled(hole, height, width)
            assert (part & inside == inside).all()
            part -= inside
        assert not (whole & part).any()
        whole += part
    assert np.array_equal(whole[y : y + bitmap.shape[0], x : x + bitmap.shape[1]], bitmap)
    assert whole.sum() == mask.area


def test_parts_that_touch_by_a_corner_only_are_two_parts() -> None:
    mask = Mask.from_bitmap(np.eye(2, dtype=np.uint8))
    assert mask is not None
    assert polygons(mask) == [[[0, 0, 1, 0, 1, 1, 0, 1]], [[1, 1, 2, 1, 2, 2, 1, 2]]]


def test_a_ring_shape_has_an_outer_ring_and_a_hole() -> None:
    bitmap = np.ones((3, 3), np.uint8)
    bitmap[1, 1] = 0
    mask = Mask.from_bitmap(bitmap, x=10, y=20)
    assert mask is not None
    assert polygons(mask) == [[[10, 20, 13, 20, 13, 23, 10, 23], [11, 21, 12, 21, 12, 22, 11, 22]]]
