"""Which classes a job wants and from which score on: its options read against a model's labels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

from maskmill.shared.errors import InvalidRequest, UnknownClass
from maskmill.shared.jobs.records import ClassName, Options

KEPT_READINGS = 64
SHOWN_LABELS = 20
SHOWN_LETTERS = 40


def lowest_scores(options: Options, labels: tuple[str, ...], threshold: float) -> tuple[float, ...]:
    """The score that an instance of each label's class must exceed; infinite for classes that are not wanted.

    `threshold` holds for a class that `options.thresholds` does not name. Raises UnknownClass, which shows the labels,
    and InvalidRequest where a class is given two thresholds.
    """
    return _read(options.classes, tuple((options.thresholds or {}).items()), labels, threshold)


def check_named_classes(options: Options, labels: tuple[str, ...]) -> None:
    """Raises what `lowest_scores` raises, for whoever needs no more."""
    lowest_scores(options, labels, math.inf)


# Read once for all the pictures of a job.
@lru_cache(maxsize=KEPT_READINGS)
def _read(
    classes: tuple[ClassName, ...] | None,
    thresholds: tuple[tuple[ClassName, float], ...],
    labels: tuple[str, ...],
    threshold: float,
) -> tuple[float, ...]:
    names = _Names(labels)
    own: dict[int, float] = {}
    for name, score in thresholds:
        for class_id in names.find(name, "thresholds"):
            if own.setdefault(class_id, score) != score:
                twice = f"{labels[class_id]!r:.80} is given both {own[class_id]:g} and {score:g}"
                raise InvalidRequest(f"thresholds: {twice}", pointer="/options/thresholds")
    wanted = set(range(len(labels)))
    if classes is not None:
        wanted = {class_id for name in classes for class_id in names.find(name, "classes")}
    return tuple(own.get(class_id, threshold) if class_id in wanted else math.inf for class_id in range(len(labels)))


class _Names:
    """A model's labels, found by what a user calls them."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._exact = _places(labels)
        self._caseless = _places(map(str.casefold, labels))
        self._numbers = {str(class_id): [class_id] for class_id in range(len(labels))}

    def find(self, name: ClassName, field: str) -> list[int]:
        """The ids of the classes of that label, whatever its case if only one is meant, else of that number."""
        found = self._called(name) if isinstance(name, str) else []
        found = found or self._numbers.get(str(name), [])
        if not found:
            raise UnknownClass(
                f"{field}: no class {name!r:.80}; the model has {self._shown()}", pointer=f"/options/{field}"
            )
        return found

    def _called(self, name: str) -> list[int]:
        alike = self._exact.get(name) or self._caseless.get(name.casefold(), [])
        return alike if len({self._labels[class_id] for class_id in alike}) == 1 else []

    def _shown(self) -> str:
        count = len(self._labels)
        shown = ", ".join(label[:SHOWN_LETTERS] for label in self._labels[:SHOWN_LABELS])
        more = f" and {count - SHOWN_LABELS} more" if count > SHOWN_LABELS else ""
        return f"0 to {count - 1}: {shown}{more}"


def _places(names: Iterable[str]) -> dict[str, list[int]]:
    places = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    return dict(places)
