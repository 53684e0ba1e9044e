"""Instances check themselves, so that no stage hands on arrays that do not belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from maskmill.worker.masks.instances import Instances
from maskmill.worker.masks.mask import Mask

EMPTY: dict[str, Any] = {
    "boxes": np.zeros((0, 4), np.float32),
    "scores": np.zeros(0, np.float32),
    "class_ids": np.zeros(0, np.int64),
    "masks": (),
}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"boxes": np.zeros((0, 4))}, r"boxes: expected float32\[0, 4\], got float64\[0, 4\]"),
        ({"scores": np.zeros(1, np.float32)}, r"scores: expected float32\[0\], got float32\[1\]"),
        ({"class_ids": np.zeros(0, np.int32)}, r"class_ids: expected int64\[0\], got int32\[0\]"),
    ],
)
def test_an_array_of_the_wrong_kind_or_length_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Instances(**{**EMPTY, **wrong})


def test_the_best_are_the_first_and_all_where_no_number_is_given() -> None:
    mask = Mask.from_bitmap(np.ones((2, 2), np.uint8))
    assert mask
    found = Instances(
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.array([0.9, 0.8, 0.8], np.float32),
        np.array([4, 6, 5]),
        (mask, mask, mask),
    )
    kept = {most: found.best(most).class_ids.tolist() for most in (1, 2, 3, 50, None)}
    assert kept == {1: [4], 2: [4, 6], 3: [4, 6, 5], 50: [4, 6, 5], None: [4, 6, 5]}
    assert found.best(2).boxes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(Instances.none().best(5)) == 0


def test_no_instances_are_instances() -> None:
    assert len(Instances.none()) == 0
