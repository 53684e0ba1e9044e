"""A mask is exact to the pixel, whatever its shape, and costs its spans only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as coco

from maskmill.worker.masks.mask import Mask, Window
from maskmill.worker.masks.resample import Axis, SampleGrid

# pycocotools 2.0.11 decodes through an array protocol of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BITMAPS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)
FIELDS = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(-9, 9).map(lambda value: value + 0.37))
)


def framed(bitmap: NDArray[np.uint8], x: int, y: int, height: int, width: int) -> NDArray[np.uint8]:
    whole = np.zeros((height, width), np.uint8)
    whole[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
    return whole


@given(BITMAPS, st.integers(0, 3), st.integers(0, 3))
def test_the_rle_is_the_one_that_pycocotools_makes_of_the_whole_picture(
    bitmap: NDArray[np.uint8], x: int, y: int
) -> None:
    height, width = y + bitmap.shape[0] + 1, x + bitmap.shape[1]
    mask = Mask.from_bitmap(bitmap, x, y)
    if mask is None:
        assert not bitmap.any()
        return
    expected = coco.encode(np.asfortranarray(framed(bitmap, x, y, height, width)))
    assert mask.rle(height, width) == expected["counts"].decode()


@given(BITMAPS)
def test_spans_that_run_over_the_end_of_a_column_are_one_run_of_the_rle(bitmap: NDArray[np.uint8]) -> None:
    mask = Mask.from_bitmap(bitmap)
    if mask is not None:
        assert mask.rle(*bitmap.shape) == coco.encode(np.asfortranarray(bitmap))["counts"].decode()


@given(BITMAPS)
def test_a_mask_gives_back_its_bitmap_and_its_area(bitmap: NDArray[np.uint8]) -> None:
    mask = Mask.from_bitmap(bitmap, 5, 7)
    if mask is not None:
        assert np.array_equal(mask.bitmap(), bitmap)
        assert mask.area == bitmap.sum()


def test_a_crop_is_zero_outside_the_window() -> None:
    mask = Mask.from_bitmap(np.ones((2, 3), np.uint8), x=4, y=1)
    assert mask is not None
    assert mask.crop(Window(3, 0, 3, 4)).tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 1], [0, 0, 0]]
    assert mask.crop(Window(20, 20, 2, 1)).tolist() == [[0, 0]]
    assert mask.crop(Window(4, 1, 0, 2)).shape == (2, 0)


def test_a_window_takes_the_pixels_from_x1_up_to_but_not_x2() -> None:
    assert Window.inside((1.0, 0.2, 3.0, 2.2), 10, 10) == Window(1, 1, 2, 2)
    assert Window.inside((-5, -5, 99, 99), 4, 6) == Window(0, 0, 6, 4)


def test_a_rounded_window_rounds_halves_to_even() -> None:
    assert Window.rounded((0.5, 1.5, 4.5, 5.5), 10, 10) == Window(0, 2, 4, 4)


def bilinear(field: NDArray[np.float32], grid: SampleGrid, window: Window) -> NDArray[np.float64]:
    """The field at every pixel of the window, sample by sample."""
    rows = grid.rows.at(np.arange(window.y, window.y + window.height))
    columns = grid.columns.at(np.arange(window.x, window.x + window.width))
    values = np.pad(field.astype(np.float64), ((0, 1), (0, 1)), mode="edge")
    row, column = rows.astype(int), columns.astype(int)
    down, right = (rows - row)[:, None], (columns - column)[None]
    upper = values[np.ix_(row, column)] * (1 - right) + values[np.ix_(row, column + 1)] * right
    lower = values[np.ix_(row + 1, column)] * (1 - right) + values[np.ix_(row + 1, column + 1)] * right
    return np.asarray(upper * (1 - down) + lower * down)


@settings(max_examples=300)
@given(
    FIELDS,
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_the_traced_mask_is_the_field_evaluated_at_every_pixel(
    field: NDArray[np.float32],
    size: tuple[int, int],
    offset: tuple[float, float],
    cut: tuple[float, float, float, float],
) -> None:
    height, width = size
    grid = SampleGrid(
        Axis(field.shape[0] / height, offset[0], field.shape[0]),
        Axis(field.shape[1] / width, offset[1], field.shape[1]),
    )
    x, y = int(cut[0] * (width - 1)), int(cut[1] * (height - 1))
    window = Window(x, y, 1 + int(cut[2] * (width - x - 1)), 1 + int(cut[3] * (height - y - 1)))
    rows, columns = grid.around(window)
    mask = grid.mask(np.ascontiguousarray(field[rows, columns]), window)
    values = bilinear(field, grid, window)
    traced = np.zeros(values.shape, np.uint8) if mask is None else mask.bitmap()
    clear = np.abs(values) > 1e-4
    assert np.array_equal(traced[clear], (values > 0)[clear])
    if mask is not None:
        whole = framed(traced, x, y, height, width)
        assert mask.rle(height, width) == coco.encode(np.asfortranarray(whole))["counts"].decode()


@settings(max_examples=300)
@given(
    FIELDS,
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    st.floats(-1, 1),
)
def test_the_mask_of_a_whole_field_misses_no_pixel(
    field: NDArray[np.float32], size: tuple[int, int], offset: tuple[float, float], level: float
) -> None:
    height, width = size
    grid = SampleGrid(
        Axis(field.shape[0] / height, offset[0], field.shape[0]),
        Axis(field.shape[1] / width, offset[1], field.shape[1]),
    )
    mask = grid.whole(field, height, width, level)
    values = bilinear(field, grid, Window(0, 0, width, height)) - level
    traced = np.zeros((height, width), np.uint8)
    if mask is not None:
        traced = framed(mask.bitmap(), mask.window.x, mask.window.y, height, width)
    clear = np.abs(values) > 1e-4
    assert np.array_equal(traced[clear], (values > 0)[clear])


def test_samples_across_a_box_share_it_evenly() -> None:
    field = np.array([[1, 1, 0, 0]], np.float32)
    mask = SampleGrid.across((10, 20, 18, 26), 1, 4).inside(field, Window(10, 20, 8, 6), 0.5)
    assert mask is not None
    assert mask.bitmap().tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 6


def test_a_field_nowhere_above_zero_gives_no_mask() -> None:
    grid = SampleGrid(Axis(0.5, 0, 4), Axis(0.5, 0, 4))
    assert grid.mask(np.zeros((4, 4), np.float32), Window(0, 0, 8, 8)) is None


@pytest.mark.parametrize("height", [1, 2, 50])
def test_a_mask_over_the_whole_picture_is_one_run(height: int) -> None:
    mask = Mask.from_bitmap(np.ones((height, 3), np.uint8))
    assert mask is not None
    assert coco.decode({"size": [height, 3], "counts": mask.rle(height, 3)}).all()
    assert [len(edges) for edges in mask.spans(height)] == [1, 1]
