"""Instances check themselves, so that no stage hands on arrays that do not belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from maskmill.worker.masks.instances import Instances

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


def test_no_instances_are_instances() -> None:
    assert len(Instances.none()) == 0
