"""Predict without a queue: the same stages as the workers', results in the inputs' order.

One device is used in this process, several in a process each.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from pydantic import ValidationError

from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import InputError, InputNotFound, InvalidRequest, ModelError
from maskmill.shared.jobs.classes import check_named_classes
from maskmill.shared.jobs.records import Failure, Item, Job, Options, new_job_id
from maskmill.shared.jobs.sources import FileBytes, PathSource, Source, UrlSource
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
from maskmill.worker.device import Device
from maskmill.worker.images.image import Frame
from maskmill.worker.images.opencv import frame_size
from maskmill.worker.masks.segmented import Segmented
from maskmill.worker.models import Model
from maskmill.worker.pipeline.task import Done
from maskmill.worker.predict.saving import writing_to
from maskmill.worker.predict.segmenter import AnyItem, FrameItem, Make, Request, Segmenter
from maskmill.worker.predict.segmenter_process import SegmenterProcess
from maskmill.worker.rendering.artifacts import Artifact, render
from maskmill.worker.sources.artifact_names import clean, stem
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.pages import Expander

# How many items of a device may be under way or wait for an earlier one.
WINDOW = 64

Input = str | Frame
"""A file, a folder, an http(s) URL or a frame."""


@dataclass(frozen=True)
class Prediction:
    """What became of one picture: its artifacts by kind ("json", "image"), or why there are none."""

    item: Item
    artifacts: dict[str, Artifact]
    instances: int = 0
    failure: Failure | None = None

    def save(self, folder: Path, name: str | None = None, *, kinds: Collection[str] = ("json", "image")) -> None:
        """Write its artifacts of these kinds below `folder`, under the item's own name or another.

        Raises CannotStart where that cannot be written to.
        """
        for artifact in (artifact for kind, artifact in self.artifacts.items() if kind in kinds):
            path = folder / f"{name or self.item.name}{artifact.name.removeprefix(self.item.name)}"
            with writing_to(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(artifact.data)


class Predictor:
    """A model loaded on each device; a context manager, its results for one thread at a time."""

    def __init__(self, settings: Settings, model: str, *devices: Device) -> None:
        """Raises ModelInvalid and DeviceUnavailable, and ModelError where a device's process dies."""
        self._broken = ""
        self._closed = threading.Event()
        with ExitStack() as opened:
            scratch = opened.enter_context(tempfile.TemporaryDirectory(prefix="maskmill-"))
            everything = {"local_roots": (Path("/"),), "storage_url": f"file://{scratch}"}
            self._settings = settings.model_copy(update=everything)
            storage = open_storage(self._settings)
            self._fetcher = Fetcher(self._settings, storage, Egress(self._settings))
            self._expander = Expander(self._settings, storage, self._fetcher)
            self._segmenters = self._open(model, devices, opened)
            self._opened = opened.pop_all()

    def _open(self, model: str, devices: Sequence[Device], opened: ExitStack) -> Sequence[Segmenter | SegmenterProcess]:
        lost = [partial(self._break, device) for device in devices]
        if len(devices) == 1:
            alone = Segmenter(model, devices[0], self._settings, self._fetcher, lost[0])
            return [opened.enter_context(closing(alone))]
        processes = []
        for device, on_broken in zip(devices, lost, strict=True):
            process = SegmenterProcess(model, device, self._settings, on_broken)
            processes.append(opened.enter_context(closing(process)))
        for process in processes:
            process.wait_until_loaded()
        return processes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End threads and processes, dropping what they have not begun, and remove what was kept of URLs."""
        self._closed.set()
        self._opened.close()

    def _break(self, device: Device, error: Exception) -> None:
        self._broken = self._broken or f"device {device} is lost: {Failure.of('infer', error).reason}"

    def check_options(self, options: Options) -> None:
        """Raises UnknownClass where the options name a class that the model does not have."""
        check_named_classes(options, self._segmenters[0].labels)

    def predict(self, inputs: Sequence[str], options: Options | None = None) -> Iterator[Prediction]:
        """The predictions of files, folders and http(s) URLs, in order; one that fails carries its failure.

        Raises UnknownClass before the first is read, and ModelError where a device is lost.
        """
        asked = options or Options()
        for item, done in self.run(inputs, asked, partial(_made, asked)):
            assert isinstance(item, Item)
            artifacts, instances = done.value or ({}, 0)
            yield Prediction(item, artifacts, instances, done.failure)

    def run(self, inputs: Sequence[Input], options: Options, make: Make) -> Iterator[tuple[AnyItem, Done]]:
        """Each item of the inputs in order, and how it ended: with what `make` made, or with its failure.

        Raises UnknownClass before the first is read, and ModelError where a device is lost.
        """
        self.check_options(options)
        for item, end in self._feed(inputs, options, make):
            done = end.result()
            self._check()
            yield item, done

    def _check(self) -> None:
        if self._closed.is_set():
            raise InvalidRequest("closed already; nothing more can be predicted")
        if self._broken:
            raise ModelError(self._broken)

    def _feed(self, inputs: Sequence[Input], options: Options, make: Make) -> Iterator[tuple[AnyItem, Future[Done]]]:
        """The items in order and their ends, a window of them let into the devices ahead of the one asked for."""
        waiting: deque[tuple[AnyItem, Future[Done]]] = deque()
        window = WINDOW * len(self._segmenters)
        for item in self._items(inputs, options):
            while waiting and (len(waiting) == window or waiting[0][1].done()):
                yield waiting.popleft()
            end: Future[Done] = Future()
            waiting.append((item, end))
            if item.failure:
                end.set_result(Done(failure=item.failure))
            else:
                self._check()
                least_busy = min(self._segmenters, key=lambda segmenter: segmenter.under_way)
                least_busy.put(Request(item, options, make), end.set_result)
        yield from waiting

    def _items(self, inputs: Sequence[Input], options: Options) -> Iterator[AnyItem]:
        sources: list[Source] = []
        for given in inputs:
            found = self._in_memory(given) if isinstance(given, np.ndarray) else _source(given)
            if isinstance(found, (Item, FrameItem)):
                yield from self._expanded(sources, options)
                yield found
                sources = []
            else:
                sources.append(found)
        yield from self._expanded(sources, options)

    def _expanded(self, sources: Sequence[Source], options: Options) -> Iterator[Item]:
        job = Job(id=new_job_id(), created_at=time.time(), sources=tuple(sources), options=options, shard_size=1)
        return self._expander.items(job)

    def _in_memory(self, frame: Frame) -> FrameItem:
        """The frame as an item; one that is no picture has failed, and a subclass of arrays is left behind."""
        failure = None
        try:
            frame_size(frame, self._settings)
        except InputError as error:
            failure = Failure.of("decode", error)
        return FrameItem(frame_name(), np.asarray(frame), failure)


def _made(options: Options, found: Segmented, item: Item, model: Model) -> tuple[dict[str, Artifact], int]:
    """The artifacts, and how many instances they show."""
    rendered = render(found, item, options, model)
    return rendered.artifacts, rendered.instances


def frame_name() -> str:
    """A name for a frame, which has none: the second of now and four digits, as PaddleX names them."""
    return f"{int(time.time())}_{1000 + secrets.randbelow(9000)}"


def _source(name: str) -> Source | Item:
    """What the name leads to; an item that has failed where it can lead to nothing."""
    path = clean(name)
    try:
        if path != name:
            raise InputNotFound(f"the name of {path} is not UTF-8; rename it")
        return UrlSource(url=name) if "://" in name else PathSource(path=name)
    except ValidationError as error:
        problem: InputError = InputNotFound(f"{path or repr(path)}: {error.errors()[0]['msg']}")
    except InputNotFound as error:
        problem = error
    location = FileBytes(path=path)
    return Item(number=0, input_path=path, name=stem(path), location=location, failure=Failure.of("plan", problem))
