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
from maskmill.worker.models import Model, load
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.pipeline.task import Done
from maskmill.worker.rendering.artifacts import Named
from maskmill.worker.retry import patiently
from maskmill.worker.sources.fetch import Fetcher


@dataclass(frozen=True, eq=False)
class InMemory:
    """A frame as an item: it has a name, and lies nowhere."""

    name: str
    frame: Frame
    failure: Failure | None = None
    number: int = 0
    input_path: None = None
    page_index: None = None
    pdf: None = None


NO_PIXELS = np.zeros(0, np.uint8)

Make = Callable[[Segmented, Named, Model], Any]
"""What to make of what was found on an item's picture; pure computation, in any thread."""


@dataclass(frozen=True)
class Errand:
    """An item, how to segment it, and what to make of it; errand and what is made can be sent to another process."""

    item: Item | InMemory
    options: Options
    make: Make

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels that it carries itself."""
        return self.item.frame.nbytes if isinstance(self.item, InMemory) else 0


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
    def under_way(self) -> int:
        """How many errands have not ended."""
        return self._pipeline.progress.under_way

    def put(self, errand: Errand, done: Callable[[Done], None]) -> None:
        """Take an errand on, waiting while the pipeline is full; `done` is called exactly once, in any thread."""
        self._pipeline.put(_Slot(errand, done, self._pipeline.model, self._fetcher, self._closed))

    def close(self) -> None:
        """End the threads, dropping what they have not begun."""
        self._closed.set()
        self._pipeline.close()


@dataclass
class _Slot:
    """An errand as the pipeline sees it; the pixels that it carries are handed over with `fetch`."""

    errand: Errand
    done: Callable[[Done], None]
    model: Model
    fetcher: Fetcher
    closed: threading.Event

    @property
    def options(self) -> Options:
        return self.errand.options

    @property
    def page_index(self) -> int | None:
        return self.errand.item.page_index

    @property
    def pdf(self) -> PdfOptions | None:
        return self.errand.item.pdf

    def wanted(self) -> bool:
        return not self.closed.is_set()

    def fetch(self) -> bytes | Frame:
        item = self.errand.item
        if not isinstance(item, InMemory):
            return patiently(self.fetcher.fetch, item.location)
        self.errand = replace(self.errand, item=replace(item, frame=NO_PIXELS))
        return item.frame

    def finish(self, segmented: Segmented) -> Any:
        return self.errand.make(segmented, self.errand.item, self.model)

    def deliver(self, made: Any) -> Any:
        return made
