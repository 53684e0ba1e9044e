"""The drawn picture shows every instance in its class's colour, inside the picture, and leaves the rest alone."""

from __future__ import annotations

import numpy as np
import pytest

from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.rendering.draw import OPACITY, PALETTE, colour, draw
from tests.instances import filled, instances_of

LABELS = ("cat", "dog", "Straßenbahn", "猫")
GROUND = 100


def plain(height: int, width: int) -> Image:
    return np.full((height, width, 3), GROUND, np.uint8)


def mixed(class_id: int) -> list[int]:
    """The colour that a mask of the class has on the plain ground."""
    return [round(GROUND * (1 - OPACITY) + tone * OPACITY) for tone in colour(class_id)]


def near(pixel: np.ndarray, expected: list[int]) -> bool:
    return bool(np.abs(pixel.astype(int) - expected).max() <= 1)


def test_colours_are_the_seeds_and_belong_to_the_class_not_to_the_order() -> None:
    assert PALETTE[:2] == ((255, 0, 0), (204, 255, 0))
    assert colour(3) == PALETTE[3]
    assert colour(20) == PALETTE[0]


def test_a_mask_is_tinted_red_where_its_class_is_red() -> None:
    found = instances_of(((50, 50, 150, 150), 0, 0.9, filled(200, 200, 60, 60, 140, 140)))
    drawn = draw(plain(200, 200), found, LABELS)
    assert near(drawn[100, 100], mixed(0))
    assert drawn[100, 100, 0] > drawn[100, 100, 2]


def test_pixels_of_no_instance_stay_as_they_were() -> None:
    found = instances_of(((50, 50, 150, 150), 0, 0.9, filled(200, 200, 60, 60, 140, 140)))
    drawn = draw(plain(200, 200), found, LABELS)
    assert (drawn[160:] == GROUND).all()
    assert (drawn[145, 100:140] == GROUND).all()


def test_where_masks_overlap_the_smaller_one_shows() -> None:
    large = ((10, 30, 190, 190), 0, 0.9, filled(200, 200, 10, 30, 190, 190))
    small = ((80, 80, 120, 120), 1, 0.5, filled(200, 200, 80, 80, 120, 120))
    for order in ((large, small), (small, large)):
        drawn = draw(plain(200, 200), instances_of(*order), LABELS)
        assert near(drawn[110, 110], mixed(1))
        assert near(drawn[150, 50], mixed(0))


def test_a_wide_picture_is_tinted_across_all_its_strips() -> None:
    found = instances_of(((0, 0, 4000, 600), 1, 0.9, filled(600, 4000, 0, 0, 4000, 600)))
    drawn = draw(plain(600, 4000), found, LABELS)
    assert all(near(pixel, mixed(1)) for pixel in drawn[500, 10:3990:199])


def test_the_given_picture_is_drawn_on_only_when_asked() -> None:
    found = instances_of(((50, 50, 150, 150), 0, 0.9, filled(200, 200, 60, 60, 140, 140)))
    image = plain(200, 200)
    other = draw(image, found, LABELS)
    assert (image == GROUND).all()
    assert draw(image, found, LABELS, in_place=True) is image
    assert np.array_equal(image, other)


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    assert np.array_equal(draw(plain(20, 30), Instances.none(), LABELS), plain(20, 30))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 400), (400, 3), (40, 30), (64, 96), (1200, 1600)])
@pytest.mark.parametrize("class_id", range(len(LABELS)))
def test_any_label_fits_on_a_picture_of_any_size(height: int, width: int, class_id: int) -> None:
    whole = filled(height, width, 0, 0, width, height)
    corner = filled(height, width, width - 1, height - 1, width, height)
    found = instances_of(
        ((0, 0, width, height), class_id, 0.87, whole), ((width - 1, height - 1, width, height), class_id, 0.5, corner)
    )
    drawn = draw(plain(height, width), found, LABELS)
    assert drawn.shape == (height, width, 3)
    assert (drawn != GROUND).any()


def test_a_label_at_the_top_is_drawn_inside_its_box() -> None:
    found = instances_of(((0, 0, 200, 100), 0, 0.87, filled(200, 300, 190, 90, 200, 100)))
    drawn = draw(plain(200, 300), found, LABELS)
    assert (drawn[3, 3] == colour(0)).all()


def test_equal_pictures_give_equal_drawings() -> None:
    found = instances_of(((5, 40, 90, 90), 1, 0.9, filled(100, 100, 10, 45, 80, 85)))
    assert np.array_equal(draw(plain(100, 100), found, LABELS), draw(plain(100, 100), found, LABELS))
