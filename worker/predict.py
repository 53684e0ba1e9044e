"""Predict in this process, without a queue: the same stages as the workers', results in the inputs' order."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.egress import Egress
from shared.errors import ModelError
from shared.jobs import Failure, Item, Job, Options, new_job_id
from shared.settings import Settings
from shared.sources import PathSource, PdfOptions, Source, UrlSource
from shared.storage import open_storage
from worker.device import Device, limit_threads
from worker.expand import Expander
from worker.fetch import Fetcher
from worker.models import Model, load
from worker.patience import patiently
from worker.pipeline import Pipeline
from worker.render import Artifact, Rendered, render
from worker.task import Done, Segmented

# How many items may be under way or wait for an earlier one.
WINDOW = 64


@dataclass(frozen=True)
class Prediction:
    """What became of one picture: its artifacts by kind ("json", "image"), or why there are none."""

    item: Item
    artifacts: dict[str, Artifact]
    instances: int = 0
    failure: Failure | None = None

    def save(self, folder: Path) -> list[Path]:
        """Write the artifacts below `folder`; the paths written."""
        paths = []
        for artifact in self.artifacts.values():
            path = folder / artifact.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(artifact.data)
            paths.append(path)
        return paths


@dataclass
class _Slot:
    """An item as the pipeline sees it; `over` is set once its prediction is there."""

    item: Item
    options: Options
    model: Model
    fetcher: Fetcher
    over: threading.Event
    closed: threading.Event
    prediction: Prediction | None = None

    @property
    def page_index(self) -> int | None:
        return self.item.page_index

    @property
    def pdf(self) -> PdfOptions | None:
        return self.item.pdf

    def wanted(self) -> bool:
        return not self.closed.is_set()

    def fetch(self) -> bytes:
        return patiently(self.fetcher.fetch, self.item.location)

    def finish(self, segmented: Segmented) -> Rendered:
        return render(segmented, self.item, self.options, self.model)

    def deliver(self, rendered: Rendered) -> Rendered:
        return rendered

    def done(self, done: Done) -> None:
        if done.failure:
            self.fail(done.failure)
        elif done.error is None:
            self.prediction = Prediction(self.item, done.value.artifacts, done.value.instances)
            self.over.set()

    def fail(self, failure: Failure) -> None:
        self.prediction = Prediction(self.item, {}, failure=failure)
        self.over.set()


class Predictor:
    """A loaded model and its pipeline; a context manager, `predict` for one thread at a time."""

    def __init__(self, settings: Settings, model: str, device: Device) -> None:
        limit_threads()
        self._scratch = tempfile.TemporaryDirectory(prefix="maskmill-")
        everything = {"local_roots": (Path("/"),), "storage_url": f"file://{self._scratch.name}"}
        self._settings = settings.model_copy(update=everything)
        storage = open_storage(self._settings)
        self._fetcher = Fetcher(self._settings, storage, Egress(self._settings))
        self._expander = Expander(self._settings, storage, self._fetcher)
        self._broken: Exception | None = None
        self._closed = threading.Event()
        self.model = load(model, device, self._settings)
        self.pipeline = Pipeline(self.model, self._settings, self._break)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the pipeline's threads, dropping what they have not begun, and remove what was kept of URLs."""
        self._closed.set()
        self.pipeline.close()
        self._scratch.cleanup()

    def _break(self, error: Exception) -> None:
        self._broken = error

    def predict(self, inputs: Sequence[str], options: Options | None = None) -> Iterator[Prediction]:
        """The predictions of files, folders and http(s) URLs, in order; one that fails carries its failure.

        Raises ModelError where the device is lost.
        """
        options = options or Options()
        sources = tuple(map(_source, inputs))
        job = Job(id=new_job_id(), created_at=time.time(), sources=sources, options=options, shard_size=1)
        for slot in self._feed(job):
            slot.over.wait()
            if self._broken:
                raise ModelError(f"the device is lost: {self._broken}")
            assert slot.prediction is not None
            yield slot.prediction

    def _feed(self, job: Job) -> Iterator[_Slot]:
        """The slots in order, up to WINDOW of them let into the pipeline ahead of the one that is asked for."""
        waiting: deque[_Slot] = deque()
        for item, _ in self._expander.items(job, 0, None):
            while waiting and (len(waiting) == WINDOW or waiting[0].over.is_set()):
                yield waiting.popleft()
            slot = _Slot(item, job.options, self.model, self._fetcher, threading.Event(), self._closed)
            waiting.append(slot)
            if item.failure:
                slot.fail(item.failure)
            else:
                self.pipeline.put(slot)
        yield from waiting


def _source(name: str) -> Source:
    if name.startswith(("http://", "https://")):
        return UrlSource(url=name)
    return PathSource(path=str(Path(name).absolute()))
