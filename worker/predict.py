"""Predict in this process, without a queue: the same stages as the workers', results in the inputs' order."""

from __future__ import annotations

import itertools
import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeGuard

import numpy as np
from pydantic import ValidationError

from shared.egress import Egress
from shared.errors import InvalidRequest, ModelError
from shared.jobs import Failure, Item, Job, Options, new_job_id
from shared.settings import Settings
from shared.sources import PathSource, PdfOptions, Source, UrlSource
from shared.storage import open_storage
from worker.device import Device, limit_threads
from worker.expand import Expander
from worker.fetch import Fetcher
from worker.models import load
from worker.opencv import Frame
from worker.patience import patiently
from worker.pipeline import Pipeline
from worker.render import Artifact, render
from worker.task import Done, Segmented

# How many items of a device may be under way or wait for an earlier one.
WINDOW = 64

Input = str | Frame
"""A file, a folder, an http(s) URL or a frame."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """A frame as an item: it has a name, and lies nowhere."""

    number: int
    name: str
    frame: Frame
    input_path: None = None
    page_index: None = None
    pdf: None = None
    failure: None = None


Finish = Callable[[Segmented, Item | InMemory], Any]
"""What to make of what was found on an item's picture; pure computation, in any thread."""


@dataclass(frozen=True)
class Prediction:
    """What became of one picture: its artifacts by kind ("json", "image"), or why there are none."""

    item: Item
    artifacts: dict[str, Artifact]
    instances: int = 0
    failure: Failure | None = None

    def save(self, folder: Path, name: str | None = None) -> list[Path]:
        """Write the artifacts below `folder`, under the item's own name or another; the paths written."""
        paths = []
        for artifact in self.artifacts.values():
            path = folder / f"{name or self.item.name}{artifact.name.removeprefix(self.item.name)}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(artifact.data)
            paths.append(path)
        return paths


@dataclass
class _Slot:
    """An item as the pipeline sees it; `over` is set once it has ended."""

    item: Item | InMemory
    options: Options
    make: Finish
    fetcher: Fetcher
    over: threading.Event
    closed: threading.Event
    ended: Done | None = None

    @property
    def page_index(self) -> int | None:
        return self.item.page_index

    @property
    def pdf(self) -> PdfOptions | None:
        return self.item.pdf

    def wanted(self) -> bool:
        return not self.closed.is_set()

    def fetch(self) -> bytes | Frame:
        if isinstance(self.item, InMemory):
            return self.item.frame
        return patiently(self.fetcher.fetch, self.item.location)

    def finish(self, segmented: Segmented) -> Any:
        return self.make(segmented, self.item)

    def deliver(self, made: Any) -> Any:
        return made

    def done(self, done: Done) -> None:
        self.ended = done
        self.over.set()


class Predictor:
    """A loaded model and its pipeline on each device; a context manager, its results for one thread at a time."""

    def __init__(self, settings: Settings, model: str, *devices: Device) -> None:
        limit_threads()
        models = [load(model, device, settings) for device in devices]
        self._scratch = tempfile.TemporaryDirectory(prefix="maskmill-")
        everything = {"local_roots": (Path("/"),), "storage_url": f"file://{self._scratch.name}"}
        self._settings = settings.model_copy(update=everything)
        storage = open_storage(self._settings)
        self._fetcher = Fetcher(self._settings, storage, Egress(self._settings))
        self._expander = Expander(self._settings, storage, self._fetcher)
        self._broken: Exception | None = None
        self._closed = threading.Event()
        self.model = models[0]
        self._pipelines = [Pipeline(loaded, self._settings, self._break) for loaded in models]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the pipelines' threads, dropping what they have not begun, and remove what was kept of URLs."""
        self._closed.set()
        for pipeline in self._pipelines:
            pipeline.close()
        self._scratch.cleanup()

    def _break(self, error: Exception) -> None:
        self._broken = error

    def predict(self, inputs: Sequence[str], options: Options | None = None) -> Iterator[Prediction]:
        """The predictions of files, folders and http(s) URLs, in order; one that fails carries its failure.

        Raises ModelError where the device is lost.
        """
        asked = options or Options()
        for item, done in self.run(inputs, asked, lambda found, item: render(found, item, asked, self.model)):
            assert isinstance(item, Item)
            if done.failure:
                yield Prediction(item, {}, failure=done.failure)
            else:
                yield Prediction(item, done.value.artifacts, done.value.instances)

    def run(self, inputs: Sequence[Input], options: Options, make: Finish) -> Iterator[tuple[Item | InMemory, Done]]:
        """Each item of the inputs in order, and how it ended: with what `make` made, or with its failure.

        Raises ModelError where the device is lost.
        """
        for slot in self._feed(inputs, options, make):
            slot.over.wait()
            self._check()
            assert slot.ended is not None
            yield slot.item, slot.ended

    def _check(self) -> None:
        if self._broken:
            raise ModelError(f"the device is lost: {self._broken}")
        if self._closed.is_set():
            raise InvalidRequest("closed already; nothing more can be predicted")

    def _feed(self, inputs: Sequence[Input], options: Options, make: Finish) -> Iterator[_Slot]:
        """The slots in order, a window of them let into the pipelines ahead of the one that is asked for."""
        waiting: deque[_Slot] = deque()
        window = WINDOW * len(self._pipelines)
        for item in self._items(inputs, options):
            while waiting and (len(waiting) == window or waiting[0].over.is_set()):
                yield waiting.popleft()
            slot = _Slot(item, options, make, self._fetcher, threading.Event(), self._closed)
            waiting.append(slot)
            if item.failure:
                slot.done(Done(failure=item.failure))
            else:
                self._check()
                min(self._pipelines, key=lambda pipeline: pipeline.progress.under_way).put(slot)
        yield from waiting

    def _items(self, inputs: Sequence[Input], options: Options) -> Iterator[Item | InMemory]:
        numbers = itertools.count()
        for _, run in itertools.groupby(inputs, _is_frame):
            given = list(run)
            yield from (InMemory(next(numbers), frame_name(), frame) for frame in given if _is_frame(frame))
            sources = tuple(_source(name) for name in given if isinstance(name, str))
            job = Job(id=new_job_id(), created_at=time.time(), sources=sources, options=options, shard_size=1)
            for item, _ in self._expander.items(job, 0, None):
                yield item.model_copy(update={"number": next(numbers)})


def frame_name() -> str:
    """A name for a frame, which has none: the second of now and four digits, as PaddleX names them."""
    return f"{int(time.time())}_{1000 + secrets.randbelow(9000)}"


def _is_frame(given: Input) -> TypeGuard[Frame]:
    return isinstance(given, np.ndarray)


def _source(name: str) -> Source:
    try:
        return UrlSource(url=name) if "://" in name else PathSource(path=name)
    except ValidationError as error:
        raise InvalidRequest(f"input {name[:80]!r}: {error.errors()[0]['msg']}") from None
