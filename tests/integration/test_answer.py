"""Requests that wait at the same time run on the device as batches, and each gets its own answer."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from maskmill.shared.replies import Ask, Replies
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.interactive import Answerer
from maskmill.worker.models import load
from maskmill.worker.pipeline.pipeline import Pipeline

SIDES = range(80, 96)


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    """The embedded model: one run takes far longer than decoding a small picture."""
    settings = Settings(cpu_threads=1, batch_size=8)
    pipeline = Pipeline(load("shapes", Device("cpu"), settings), settings, lambda error: pytest.fail(str(error)))
    yield pipeline
    pipeline.close()


def picture(side: int) -> bytes:
    return cv2.imencode(".png", np.full((side, side, 3), 200, np.uint8))[1].tobytes()


def test_waiting_requests_take_fewer_runs_than_they_are(pipeline: Pipeline, redis_url: str) -> None:
    replies = Replies(redis_url, "test")
    ids = [replies.ask("shapes", Ask(image=picture(side))) for side in SIDES]
    Answerer(pipeline, replies, Settings()).run()
    answers = [replies.wait(request_id, 10) for request_id in ids]
    assert [(answer.width, answer.height) for answer in answers] == [(side, side) for side in SIDES]
    assert pipeline.progress.runs["decode"] == len(SIDES)
    assert pipeline.progress.runs["infer"] < len(SIDES)
    replies.close()
