"""Segment pictures on one device in this process: each is fetched, and what was asked for is made of what was found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maskmill.shared.jobs.records import Failure, Item, Options
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device, limit_threads
from maskmill.worker.images.image import Frame
from maskmill.worker.masks.segmented import Segmented
from maskmill.worker.models import Model, load, seed_threshold
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.pipeline.task import Done
from maskmill.worker.retry import patiently
from maskmill.worker.sources.fetch import Fetcher


@dataclass(frozen=True, eq=False)
class FrameItem:
    """A frame as an item: it has a name, and lies nowhere."""

    name: str
    frame: Frame
    failure: Failure | None = None
    number: int = 0
    input_path: None = None
    page_index: None = None
    pdf: None = None


NO_PIXELS = np.zeros(0, np.uint8)

AnyItem = Item | FrameItem
Make = Callable[[Segmented, AnyItem, Model], Any]
"""What to make of what was found on an item's picture; pure computation, in any thread."""


@dataclass(frozen=True)
class Request:
    """An item, how to segment it, and what to make of it; request and what is made can be sent to another process."""

    item: AnyItem
    options: Options
    make: Make

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels that it carries itself."""
        return self.item.frame.nbytes if isinstance(self.item, FrameItem) else 0


class Segmenter:
    """A model on one device, and its pipeline."""

    def __init__(
        self, model: str, device: Device, settings: Settings, fetcher: Fetcher, on_broken: Callable[[Exception], None]
    ) -> None:
        """Raises what `load` raises; for `on_broken` see Pipeline."""
        limit_threads()
        self._fetcher = fetcher
        self._closed = threading.Event()
        self._pipeline = Pipeline(load(model, device, settings), settings, on_broken)

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's classes in order."""
        return self._pipeline.model.labels

    @property
    def under_way(self) -> int:
        """How many requests have not ended."""
        return self._pipeline.progress.under_way

    def put(self, request: Request, done: Callable[[Done], None]) -> None:
        """Take a request on, waiting while the pipeline is full; `done` is called exactly once, in any thread.

        Without a threshold the seed's holds.
        """
        model, options = self._pipeline.model, request.options
        if options.threshold is None:
            request = replace(request, options=options.model_copy(update={"threshold": seed_threshold(model)}))
        self._pipeline.put(_RequestTask(request, done, model, self._fetcher, self._closed))

    def close(self) -> None:
        """End the threads, dropping what they have not begun."""
        self._closed.set()
        self._pipeline.close()


@dataclass
class _RequestTask:
    """A request as the pipeline sees it; the pixels that it carries are handed over with `fetch`."""

    request: Request
    done: Callable[[Done], None]
    model: Model
    fetcher: Fetcher
    closed: threading.Event

    @property
    def options(self) -> Options:
        return self.request.options

    @property
    def page_index(self) -> int | None:
        return self.request.item.page_index

    @property
    def pdf(self) -> PdfOptions | None:
        return self.request.item.pdf

    def wanted(self) -> bool:
        return not self.closed.is_set()

    def fetch(self) -> bytes | Frame:
        item = self.request.item
        if not isinstance(item, FrameItem):
            return patiently(self.fetcher.fetch, item.location)
        self.request = replace(self.request, item=replace(item, frame=NO_PIXELS))
        return item.frame

    def render(self, segmented: Segmented) -> Any:
        return self.request.make(segmented, self.request.item, self.model)

    def deliver(self, made: Any) -> Any:
        return made
