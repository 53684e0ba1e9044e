"""Classes are named by label or number, and what a model does not have is told with what it has."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from maskmill.shared.errors import InvalidRequest, UnknownClass
from maskmill.shared.jobs.classes import lowest_scores
from maskmill.shared.jobs.records import Job, Options

LABELS = ("cat", "dog", "Bird", "bird", "2", "cat")
MANY = tuple(f"class {number}" for number in range(1203))
OUT = math.inf


def scores(labels: tuple[str, ...] = LABELS, **asked: Any) -> list[float]:
    return list(lowest_scores(Options.model_validate(asked), labels, 0.5))


def test_without_a_wish_every_class_has_the_one_threshold() -> None:
    assert scores() == [0.5] * 6


@pytest.mark.parametrize(
    ("classes", "kept"),
    [
        (["dog"], [1]),
        ([1, "1", "dog", "DOG", "dog"], [1]),
        (["Bird"], [2]),
        (["bird"], [3]),
        # A label goes before a number, and one that two classes share stands for both.
        (["2"], [4]),
        ([2], [2]),
        (["CAT"], [0, 5]),
    ],
)
def test_a_class_is_kept_by_its_label_whatever_its_case_or_by_its_number(classes: list[Any], kept: list[int]) -> None:
    assert scores(classes=classes) == [0.5 if class_id in kept else OUT for class_id in range(6)]


def test_a_threshold_by_class_may_be_lower_or_higher_than_the_general_one() -> None:
    assert scores(thresholds={"dog": 0.2, "3": 0.9}) == [0.5, 0.2, 0.5, 0.9, 0.5, 0.5]
    assert scores(thresholds={"dog": 0.2, 1: 0.2}) == [0.5, 0.2, 0.5, 0.5, 0.5, 0.5]
    assert scores(thresholds={"dog": 0.2, "Bird": 0.9}, classes=["dog"]) == [OUT, 0.2, OUT, OUT, OUT, OUT]
    assert scores(thresholds={}) == scores()


@pytest.mark.parametrize("name", ["cow", "BIRD", 6, "6", "02", "-1", "", "²"])
@pytest.mark.parametrize("field", ["classes", "thresholds"])
def test_a_class_that_the_model_does_not_have_is_told_with_its_labels(field: str, name: Any) -> None:
    asked = {"classes": [name]} if field == "classes" else {"thresholds": {name: 0.3}}
    with pytest.raises(UnknownClass) as caught:
        scores(**asked)
    told = f"{field}: no class {name!r}; the model has 0 to 5: cat, dog, Bird, bird, 2, cat"
    assert (caught.value.reason, caught.value.pointer) == (told, f"/options/{field}")


def test_many_labels_and_long_names_are_told_in_short() -> None:
    with pytest.raises(UnknownClass, match=r"has 0 to 1202: class 0, .*class 19 and 1183 more$") as caught:
        scores(MANY, classes=["x" * 5000])
    assert len(caught.value.reason) < 400


def test_one_class_with_two_thresholds_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"thresholds: 'dog' is given both 0\.2 and 0\.3") as caught:
        scores(thresholds={"dog": 0.2, "1": 0.3})
    assert caught.value.pointer == "/options/thresholds"


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": []},
        {"classes": "cat"},
        {"classes": [True]},
        {"classes": [-1]},
        {"classes": [1.0]},
        {"classes": [None]},
        {"classes": ["\ud800"]},
        {"classes": ["a"] * 10_001},
        {"thresholds": {"cat": 0}},
        {"thresholds": {"cat": 1}},
        {"thresholds": {"cat": None}},
        {"thresholds": {True: 0.5}},
        {"thresholds": 0.5},
        {"max_instances": 0},
        {"max_instances": 1.5},
    ],
)
def test_what_names_no_classes_no_scores_and_no_number_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(wrong)


def test_a_job_comes_back_from_its_file_as_it_was_and_an_older_one_wants_everything() -> None:
    options = Options(classes=("cat", 7), thresholds={"cat": 0.3, "7": 0.6}, max_instances=2)
    job = Job(id="0123456789", created_at=0, sources=(), shard_size=1, options=options)
    assert Job.model_validate_json(job.model_dump_json()) == job
    older = job.model_dump(mode="json", exclude={"options": {"classes", "thresholds", "max_instances"}})
    assert Job.model_validate(older).options == Options()
