"""Only what is wanted comes out: classes, a threshold for each, the best of a picture; by every way in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from maskmill import create_pipeline
from maskmill.deploy.demo.scenes import draw_scene
from maskmill.shared.errors import InvalidRequest, UnknownClass
from maskmill.shared.jobs.records import Options
from maskmill.shared.jobs.sources import PathSource
from maskmill.worker.predict.create_pipeline import InstanceSegmentation
from tests.services import run_redis
from tests.services.commands import maskmill, run_up
from tests.services.workers import Workers, run_workers, settings_for

WRONG = 2
LABELS = "circle, rectangle, triangle, star, cross, ring, heart, crescent"
# What the embedded model finds in the picture above 0.05, in this order: the last at 0.13, the one before at 0.30.
FOUND = ["rectangle", "circle", "triangle", "circle", "circle", "triangle", "rectangle", "crescent"]
WISHES: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [0, 1, 2, 3, 4, 5]),
    ({"classes": ["circle", 2]}, [1, 2, 3, 4, 5]),
    ({"classes": ["crescent"]}, []),
    ({"thresholds": {"crescent": 0.1, "1": 0.2}}, [0, 1, 2, 3, 4, 5, 6, 7]),
    ({"thresholds": {"circle": 0.75, "triangle": 0.9}}, [0, 1, 3]),
    ({"thresholds": {"crescent": 0.1, "circle": 0.75}, "classes": ["Circle", "crescent"]}, [1, 3, 7]),
    ({"max_instances": 3}, [0, 1, 2]),
    ({"classes": ["triangle", "crescent"], "thresholds": {"crescent": 0.1}, "max_instances": 2}, [2, 5]),
]
UNKNOWN = [{"classes": ["circle", "moon"]}, {"thresholds": {"8": 0.3}}]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wanted") / "pictures/scene.png"
    path.parent.mkdir()
    Pillow.fromarray(draw_scene(4, 480, 360).image).save(path)
    return path


@pytest.fixture(scope="module", params=["cpu", "cpu,cpu"])
def pipeline(request: pytest.FixtureRequest) -> Iterator[InstanceSegmentation]:
    with create_pipeline(model="shapes", device=request.param) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def everything(picture: Path) -> list[Any]:
    """The boxes and masks above 0.05, those that nobody wants included."""
    with create_pipeline(model="shapes", device="cpu") as pipeline:
        [result] = pipeline.predict(str(picture), threshold=0.05)
    assert [box["label"] for box in result["boxes"]] == FOUND
    return list(zip(result["boxes"], result["masks"], strict=True))


@pytest.fixture(scope="module")
def workers(picture: Path) -> Iterator[Workers]:
    with run_redis() as redis, run_workers(settings_for(picture.parents[1], redis.url)) as running:
        yield running


def shown(document: Any) -> list[Any]:
    return list(zip(document["boxes"], document["masks"], strict=True))


@pytest.mark.parametrize(("wish", "kept"), WISHES)
def test_a_pipeline_gives_what_is_wanted_as_it_is_among_everything(
    pipeline: InstanceSegmentation, picture: Path, everything: list[Any], wish: dict[str, Any], kept: list[int]
) -> None:
    [result] = pipeline.predict(str(picture), threshold=0.5, **wish)
    assert shown(result) == [everything[index] for index in kept]
    assert result["threshold"] == 0.5


def test_a_pipeline_may_be_made_with_wishes_and_each_call_have_its_own(picture: Path, everything: list[Any]) -> None:
    wish: dict[str, Any] = {"classes": ["crescent", "circle"], "thresholds": {7: 0.1}, "max_instances": 2}
    with create_pipeline(model="shapes", device="cpu", **wish) as pipeline:
        kept = [list(pipeline.predict(str(picture), **own)) for own in ({}, {"max_instances": 9}, {"classes": [7]})]
    assert [shown(result) for [result] in kept] == [
        [everything[index] for index in indexes] for indexes in ([1, 3], [1, 3, 4, 7], [7])
    ]


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_a_pipeline_refuses_a_class_that_the_model_does_not_have_at_once(
    pipeline: InstanceSegmentation, unknown: dict[str, Any]
) -> None:
    with pytest.raises(UnknownClass, match=f"the model has 0 to 7: {LABELS}"):
        pipeline.predict("nowhere.png", **unknown)
    with pytest.raises(UnknownClass, match=LABELS):
        create_pipeline(model="shapes", device="cpu", **unknown)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"classes": []}, "classes: expected a list .* not an empty one; got \\[\\]"),
        ({"classes": "cat"}, "classes: expected a list"),
        ({"thresholds": {"circle": 1}}, "thresholds: .* between 0 and 1, both excluded; got {'circle': 1}"),
        ({"thresholds": {"circle": 0.3, 0: 0.4}}, "'circle' is given both"),
        ({"max_instances": 0}, "max_instances: expected a whole number from 1 on; got 0"),
    ],
)
def test_a_pipeline_says_what_it_expects(pipeline: InstanceSegmentation, wrong: dict[str, Any], expected: str) -> None:
    for call in (lambda: pipeline.predict("nowhere.png", **wrong), lambda: create_pipeline(device="cpu", **wrong)):
        with pytest.raises(InvalidRequest, match=expected):
            call()


def test_the_command_gives_what_is_wanted(picture: Path, everything: list[Any]) -> None:
    words = ["predict", picture, "--model", "shapes", "--device", "cpu", "--json"]
    wish = ["--classes", "crescent,0", "--thresholds", "crescent=0.1,Circle=0.75", "--max-instances", "3"]
    done = maskmill(*words, *wish)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown(json.loads(done.stdout)) == [everything[index] for index in (1, 3, 7)]


def test_the_command_refuses_a_class_before_it_reads_anything(tmp_path: Path) -> None:
    done = maskmill("predict", tmp_path / "none.png", "--model", "shapes", "--device", "cpu", "--classes", "moon")
    assert (done.returncode, done.stdout) == (WRONG, "")
    assert done.stderr == f"Error: classes: no class 'moon'; the model has 0 to 7: {LABELS}\n"


@pytest.mark.parametrize(("wish", "kept"), WISHES)
def test_a_job_gives_what_is_wanted(
    workers: Workers, picture: Path, everything: list[Any], wish: dict[str, Any], kept: list[int]
) -> None:
    options = Options.model_validate({"threshold": 0.5, **wish})
    job_id = workers.submit([PathSource(path=str(picture))], options)
    workers.wait(job_id)
    document = json.loads(workers.artifacts(job_id)["scene.png_res.json"])
    assert shown(document) == [everything[index] for index in kept]
    assert document["threshold"] == 0.5
    assert [outcome.instances for outcome in workers.outcomes(job_id)] == [len(kept)]


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_the_items_of_a_job_that_was_accepted_unchecked_fail_with_the_reason(
    workers: Workers, picture: Path, unknown: dict[str, Any]
) -> None:
    job_id = workers.submit([PathSource(path=str(picture))], Options.model_validate(unknown))
    assert workers.wait(job_id).counts.failed == 1
    [outcome] = workers.outcomes(job_id)
    assert outcome.error
    assert (outcome.error.stage, outcome.error.code) == ("fetch", "unknown_class")
    assert outcome.error.reason.endswith(f"the model has 0 to 7: {LABELS}")


def test_submit_asks_for_what_is_wanted_and_is_told_what_there_is(
    picture: Path, everything: list[Any], tmp_path: Path
) -> None:
    with run_up() as up:
        words = ["submit", picture, "--api", up.url, "--out", tmp_path / "out", "--threshold", "0.5"]
        done = maskmill(
            *words, "--thresholds", "crescent=0.1", "--classes", "Crescent,triangle", "--max-instances", "9"
        )
        refused = maskmill(*words, "--classes", "moon")
    assert done.returncode == 0
    document = json.loads((tmp_path / "out/scene.png_res.json").read_text())
    assert shown(document) == [everything[index] for index in (2, 5, 7)]
    assert refused.returncode == WRONG
    assert f"no class 'moon'; the model has 0 to 7: {LABELS}" in refused.stderr
