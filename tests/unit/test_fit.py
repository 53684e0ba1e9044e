"""A Fit puts a picture into the network's canvas and brings boxes and samples exactly back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmill.worker.models.fit import Fit, letterbox, tensor
from maskmill.worker.models.manifest import Normalisation

SIDES = st.integers(1, 3000)


@pytest.mark.parametrize(
    ("size", "stride", "expected"),
    [
        ((480, 640), None, Fit(480, 640, (240, 320), (320, 320), top=40, left=0)),
        ((480, 640), 32, Fit(480, 640, (240, 320), (256, 320), top=8, left=0)),
        ((720, 1280), 32, Fit(720, 1280, (180, 320), (192, 320), top=6, left=0)),
        ((640, 427), None, Fit(640, 427, (320, 214), (320, 320), top=0, left=53)),
        ((1, 3000), 32, Fit(1, 3000, (1, 320), (32, 320), top=15, left=0)),
    ],
)
def test_the_letterbox_centres_the_picture(size: tuple[int, int], stride: int | None, expected: Fit) -> None:
    assert letterbox(*size, (320, 320), stride) == expected


@given(SIDES, SIDES, st.booleans())
def test_the_pictures_own_frame_comes_back_as_the_picture(height: int, width: int, rectangle: bool) -> None:
    fit = letterbox(height, width, (320, 320), 32 if rectangle else None)
    frame = [fit.left, fit.top, fit.left + fit.inner[1], fit.top + fit.inner[0]]
    assert np.allclose(fit.boxes(np.array([frame], np.float32)), [[0, 0, width, height]], rtol=1e-5)


@given(SIDES, SIDES)
def test_boxes_are_cut_to_the_picture(height: int, width: int) -> None:
    fit = letterbox(height, width, (320, 320))
    assert fit.boxes(np.array([[-1e6, -1e6, 1e6, 1e6]], np.float32)).tolist() == [[0, 0, width, height]]


@given(SIDES, SIDES, st.floats(0, 1), st.floats(0, 1))
def test_samples_lie_where_their_piece_of_the_canvas_shows_the_picture(
    height: int, width: int, down: float, right: float
) -> None:
    fit = letterbox(height, width, (320, 320))
    grid = fit.grid(80, 80)
    canvas_y, canvas_x = fit.top + down * fit.inner[0], fit.left + right * fit.inner[1]
    box = fit.boxes(np.array([[canvas_x, canvas_y, canvas_x, canvas_y]], np.float32))[0]
    # A point's pixel position is its coordinate less one half, and the same holds for samples of 4 canvas pixels.
    row, column = grid.rows.pixel(np.array(canvas_y / 4 - 0.5)), grid.columns.pixel(np.array(canvas_x / 4 - 0.5))
    assert np.allclose([column + 0.5, row + 0.5], box[:2], rtol=1e-4, atol=1e-2)


def test_the_border_has_the_colour_asked_for_and_the_inside_the_picture() -> None:
    image = np.full((10, 20, 3), (1, 2, 3), np.uint8)
    canvas = letterbox(10, 20, (20, 20)).apply(image, 114)
    assert canvas.shape == (20, 20, 3)
    assert (canvas[:5] == 114).all()
    assert (canvas[15:] == 114).all()
    assert (canvas[5:15] == (1, 2, 3)).all()


def test_a_tensor_is_normalised_channel_by_channel() -> None:
    canvas = np.array([[[0, 51, 255]]], np.uint8)
    assert tensor(canvas, Normalisation()).ravel().tolist() == [0, np.float32(0.2), 1]
    swapped = Normalisation(scale=1, mean=(1, 2, 3), std=(2, 2, 2), channels="BGR")
    assert tensor(canvas, swapped).ravel().tolist() == [127, 24.5, -1.5]
