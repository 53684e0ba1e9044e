"""Suppression keeps the best box of each crowd, class by class, however many boxes there are."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from maskmill.worker.models.nms import suppress


def boxes(*rows: tuple[float, float, float, float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(-1, 4)


def one_by_one(found: NDArray[np.float32], class_ids: NDArray[np.int64], overlap: float, limit: int) -> list[int]:
    """The textbook's loop."""
    kept: list[int] = []
    for index, (x1, y1, x2, y2) in enumerate(found.astype(np.float64)):
        for other in kept:
            a1, b1, a2, b2 = found[other].astype(np.float64)
            common = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
            if class_ids[index] == class_ids[other] and common > overlap * (
                (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - common
            ):
                break
        else:
            kept.append(index)
    return kept[:limit]


def crowd(count: int, spread: float, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(count)
    centres, sides = random.uniform(0, spread, (count, 2)), random.uniform(5, 150, (count, 2))
    found = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
    return found, random.integers(0, classes, count)


@pytest.mark.parametrize(("count", "spread", "classes"), [(1, 9, 1), (127, 200, 3), (129, 50, 2), (700, 300, 5)])
def test_it_keeps_what_the_textbook_loop_keeps(count: int, spread: float, classes: int) -> None:
    found, class_ids = crowd(count, spread, classes)
    assert suppress(found, class_ids, 0.5, 300).tolist() == one_by_one(found, class_ids, 0.5, 300)


def test_boxes_of_different_classes_never_drop_each_other() -> None:
    same = boxes((0, 0, 10, 10), (0, 0, 10, 10))
    assert suppress(same, np.array([0, 1]), 0.5, 300).tolist() == [0, 1]
    assert suppress(same, np.array([1, 1]), 0.5, 300).tolist() == [0]


def test_an_overlap_of_exactly_the_limit_is_kept() -> None:
    halves = boxes((0, 0, 2, 1), (0, 0, 1, 1))
    assert suppress(halves, np.array([0, 0]), 0.5, 300).tolist() == [0, 1]


def test_no_boxes_leave_no_boxes() -> None:
    assert suppress(boxes(), np.zeros(0, np.int64), 0.5, 300).tolist() == []


@pytest.mark.parametrize("spread", [5, 3000])
def test_30000_candidates_need_little_memory(spread: float) -> None:
    found, class_ids = crowd(30_000, spread, 3)
    tracemalloc.start()
    kept = suppress(found, class_ids, 0.7, 300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) <= 300
    assert peak < 8e6
