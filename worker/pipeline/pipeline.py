"""The shard pipeline: fetch → decode → infer → finish → deliver, overlapped by bounded queues.

Tasks go in one by one and come out in any order, each through its own `done`. A stage that raises ends its
own task and no other; a batch that raises is halved until the one that raises is alone. Memory is bounded by
three budgets (encoded bytes, decoded pixels, outputs) and the queues' lengths, never by how many tasks there are.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maskmill.shared.formats import HEAD_BYTES, sniff
from maskmill.shared.jobs.classes import check_named_classes, lowest_scores
from maskmill.shared.jobs.records import Failure
from maskmill.shared.settings import Settings
from maskmill.worker.images.decode import copies, decode, pixels
from maskmill.worker.images.image import Frame, Image
from maskmill.worker.images.opencv import frame_size, image_of
from maskmill.worker.masks.segmented import Segmented
from maskmill.worker.models import Model, Outputs, Prepared
from maskmill.worker.pipeline.budget import Budget
from maskmill.worker.pipeline.progress import Progress
from maskmill.worker.pipeline.task import Done, Task


class _Dropped(Exception):
    """Nobody waits for the task any more."""


@dataclass
class _Work:
    """A task between two stages, with what it holds."""

    task: Task
    data: bytes | Frame = b""
    format: str = ""
    image: Image | None = None
    prepared: Prepared | None = None
    outputs: Outputs | None = None
    finished: Any = None
    held_bytes: int = 0
    held_pixels: int = 0
    held_outputs: int = 0

    @property
    def tensors(self) -> Prepared:
        assert self.prepared is not None
        return self.prepared


class _Stage:
    """A name, the bounded line of work before it, and the threads that take from it."""

    def __init__(self, name: str, room: int) -> None:
        self.name = name
        self.line: queue.Queue[_Work | None] = queue.Queue(maxsize=room)
        self._threads: list[threading.Thread] = []

    def start(self, target: Callable[[], None], threads: int) -> None:
        for _ in range(threads):
            thread = threading.Thread(target=target, name=f"pipeline-{self.name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        for _ in self._threads:
            self.line.put(None)
        for thread in self._threads:
            # A pipeline that nobody closed may be collected in any thread, one of its own included.
            if thread is not threading.current_thread():
                thread.join()


class Pipeline:
    """The stages of one model on one device.

    `on_broken` is called where the model fails on its own warm-up picture: the device is lost, and no input is to
    blame. It should end the process, so that the shard runs again elsewhere.
    """

    def __init__(self, model: Model, settings: Settings, on_broken: Callable[[Exception], None]) -> None:
        self.model = model
        self.progress = Progress()
        self._settings = settings
        self._on_broken = on_broken
        self._bytes = Budget(settings.bytes_in_flight)
        self._pixels = Budget(settings.pixels_in_flight)
        self._outputs = Budget(settings.outputs_in_flight)
        # The most that one picture's outputs needed so far.
        self._output_bytes = model.output_bytes
        # Half is for what is computed, half for what is read meanwhile.
        fitting = max(settings.outputs_in_flight // (2 * model.runs * model.output_bytes), 1)
        self._batch_limit = min(settings.batch_size, model.batch_limit, fitting)
        self._stages = (
            _Stage("fetch", room=1),
            _Stage("decode", room=settings.fetch_threads),
            _Stage("infer", room=2 * model.runs * self._batch_limit),
            _Stage("finish", room=2 * self._batch_limit),
            _Stage("deliver", room=settings.store_threads),
        )
        fetch, decoding, infer, finish, deliver = self._stages
        self._next = dict(zip((stage.name for stage in self._stages), self._stages[1:], strict=False))
        fetch.start(lambda: self._run(fetch, self._fetch_one), settings.fetch_threads)
        decoding.start(lambda: self._run(decoding, self._decode_one), settings.decode_threads)
        infer.start(lambda: self._run_inferrer(infer), model.runs)
        finish.start(lambda: self._run(finish, self._finish_one), settings.finish_threads)
        deliver.start(lambda: self._run(deliver, self._deliver_one), settings.store_threads)

    def put(self, task: Task) -> None:
        """Let a task in; waits while the pipeline is full."""
        self.progress.count(1)
        self._stages[0].line.put(_Work(task))

    def close(self) -> None:
        """End the threads; tasks still inside are finished first."""
        for stage in self._stages:
            stage.close()

    # Threads

    def _run(self, stage: _Stage, step: Callable[[_Work], None]) -> None:
        while (work := stage.line.get()) is not None:
            started = time.perf_counter()
            try:
                if not work.task.wanted():
                    raise _Dropped
                step(work)
            except Exception as error:  # noqa: BLE001 - whatever an input does, it ends its own task only
                self._end(work, stage.name, error)
            else:
                self.progress.spent(stage.name, time.perf_counter() - started)
                self._pass_on(stage.name, work)

    def _run_inferrer(self, stage: _Stage) -> None:
        held: _Work | None = None
        while (first := held or stage.line.get()) is not None:
            batch, held = self._gather(stage.line, first)
            started = time.perf_counter()
            self._infer_batch(batch)
            self.progress.spent("infer", time.perf_counter() - started)

    def _gather(self, line: queue.Queue[_Work | None], first: _Work) -> tuple[list[_Work], _Work | None]:
        """What waits now and fits into one run with `first`; and the one taken that does not fit."""
        batch, room = [first], self._settings.batch_bytes - first.tensors.nbytes
        while len(batch) < self._batch_limit:
            try:
                work = line.get_nowait()
            except queue.Empty:
                break
            if work is None:
                line.put(None)
                break
            if work.tensors.key != first.tensors.key or work.tensors.nbytes > room:
                return batch, work
            batch.append(work)
            room -= work.tensors.nbytes
        return batch, None

    # Steps

    def _fetch_one(self, work: _Work) -> None:
        # Before anything is spent on a picture that could have no result.
        check_named_classes(work.task.options, self.model.labels)
        reserved = self._settings.max_input_bytes
        work.held_bytes = self._bytes.acquire(reserved)
        work.data = work.task.fetch()
        work.held_bytes = len(work.data) if isinstance(work.data, bytes) else 0
        self._bytes.release(reserved - work.held_bytes)

    def _decode_one(self, work: _Work) -> None:
        if isinstance(work.data, bytes):
            self._decode_bytes(work, work.data)
        else:
            work.held_pixels = self._pixels.acquire(frame_size(work.data, self._settings))
            work.image = image_of(work.data)
        work.data = b""
        self._bytes.release(work.held_bytes)
        work.held_bytes = 0
        assert work.image is not None
        work.prepared = self.model.prepare(work.image)

    def _decode_bytes(self, work: _Work, data: bytes) -> None:
        task = work.task
        width, height = pixels(data, task.page_index, task.pdf, self._settings)
        decoding = self._pixels.acquire(width * height * copies(data))
        work.held_pixels = decoding
        work.image = decode(data, task.page_index, task.pdf, self._settings)
        work.held_pixels = width * height
        self._pixels.release(decoding - work.held_pixels)
        work.format = sniff(data[:HEAD_BYTES]) or ""

    def _infer_batch(self, batch: list[_Work]) -> None:
        granted = self._outputs.acquire(self._output_bytes * len(batch))
        try:
            outputs = self.model.infer([work.tensors for work in batch])
        except Exception as error:  # noqa: BLE001 - halved until the one that raises is alone
            self._outputs.release(granted)
            self._halve(batch, error)
            return
        needed = [sum(value.nbytes for value in output.values()) for output in outputs]
        self._output_bytes = max(self._output_bytes, *needed)
        self._outputs.release(granted - sum(needed))
        for work, output, size in zip(batch, outputs, needed, strict=True):
            work.outputs, work.held_outputs = output, size
            self._pass_on("infer", work)

    def _halve(self, batch: list[_Work], error: Exception) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            self._infer_batch(batch[:middle])
            self._infer_batch(batch[middle:])
            return
        try:
            self.model.check()
        except Exception as broken:  # noqa: BLE001 - a lost device raises whatever its runtime likes
            self._on_broken(broken)
        self._end(batch[0], "infer", error)

    def _finish_one(self, work: _Work) -> None:
        assert work.image is not None
        options = work.task.options
        threshold = self.model.threshold if options.threshold is None else options.threshold
        lowest = lowest_scores(options, self.model.labels, threshold)
        found = self.model.finish(work.outputs or {}, work.tensors, lowest, options.nms_iou)
        instances = found.best(options.max_instances)
        # Before drawing and encoding, which take far longer.
        self._drop_outputs(work)
        work.finished = work.task.render(Segmented(work.image, instances, threshold, work.format))
        self._let_go(work)

    def _deliver_one(self, work: _Work) -> None:
        work.finished = work.task.deliver(work.finished)

    # Ends

    def _pass_on(self, stage: str, work: _Work) -> None:
        if stage in self._next:
            self._next[stage].line.put(work)
        else:
            self.progress.count(-1)
            work.task.done(Done(value=work.finished))

    def _end(self, work: _Work, stage: str, error: Exception) -> None:
        self._let_go(work)
        self.progress.count(-1)
        work.task.done(Done(failure=None if isinstance(error, _Dropped) else Failure.of(stage, error), error=error))

    def _drop_outputs(self, work: _Work) -> None:
        work.prepared = work.outputs = None
        self._outputs.release(work.held_outputs)
        work.held_outputs = 0

    def _let_go(self, work: _Work) -> None:
        self._drop_outputs(work)
        self._bytes.release(work.held_bytes)
        self._pixels.release(work.held_pixels)
        work.held_bytes = work.held_pixels = 0
        work.data, work.image = b"", None
