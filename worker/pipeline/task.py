"""Task: an item's way through the pipeline as its owner wants it, and what the stages hand to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from maskmill.shared.jobs.records import Failure, Options
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.worker.images.image import Frame
from maskmill.worker.masks.segmented import Segmented


@dataclass(frozen=True)
class Done:
    """How a task ended: with what `deliver` returned, or with a failure."""

    value: Any = None
    failure: Failure | None = None
    error: Exception | None = None


class Task(Protocol):
    """One item's way through the pipeline, as its owner wants it."""

    @property
    def options(self) -> Options:
        """What is asked for."""

    @property
    def page_index(self) -> int | None:
        """The page of a paged input, from 0."""

    @property
    def pdf(self) -> PdfOptions | None:
        """How a PDF's page is rendered."""

    def wanted(self) -> bool:
        """Whether anybody still waits for this task."""

    def fetch(self) -> bytes | Frame:
        """The encoded input, or its pixels where they are at hand."""

    def render(self, segmented: Segmented) -> Any:
        """What to deliver, made of what was found; pure computation."""

    def deliver(self, finished: Any) -> Any:
        """Hand the finished over; input and output, no computation."""

    def done(self, done: Done) -> None:
        """The task is over; called exactly once."""
