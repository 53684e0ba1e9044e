"""Serve those who wait: interactive requests through the same pipeline, batched when several wait at once."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from maskmill.shared.doorbell import Doorbell
from maskmill.shared.errors import MaskmillError
from maskmill.shared.jobs.records import Options
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.replies import InteractiveQueue, InteractiveReply, InteractiveRequest
from maskmill.shared.settings import Settings
from maskmill.worker.masks.segmented import Segmented
from maskmill.worker.models import seed_threshold
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.pipeline.task import Done
from maskmill.worker.rendering.draw import draw
from maskmill.worker.rendering.encode import encode_image, seed_instances
from maskmill.worker.retry import patiently

TURN_SECONDS = 2.0


@dataclass
class InteractiveTask:
    """A request as the pipeline sees it; its reply goes to the one who waits."""

    request_id: str
    request: InteractiveRequest
    labels: tuple[str, ...]
    queue: InteractiveQueue
    over: threading.Semaphore
    options: Options
    page_index: int | None = None
    pdf: PdfOptions | None = None

    def wanted(self) -> bool:
        return patiently(self.queue.is_awaited, self.request_id)

    def fetch(self) -> bytes:
        return self.queue.image(self.request_id, self.request)

    def render(self, segmented: Segmented) -> InteractiveReply:
        height, width = segmented.image.shape[:2]
        instances = [dict(one) for one in seed_instances(segmented.instances, self.labels, height, width)]
        drawn = None
        if self.request.visualize:
            drawn = encode_image(draw(segmented.image, segmented.instances, self.labels, in_place=True), "jpg")
        return InteractiveReply(width=width, height=height, instances=instances, image=drawn)

    def deliver(self, reply: InteractiveReply) -> None:
        patiently(self.queue.reply, self.request_id, reply)

    def done(self, done: Done) -> None:
        try:
            if done.failure:
                status = done.error.status if isinstance(done.error, MaskmillError) else 500
                self.deliver(InteractiveReply(failure=done.failure, status=status))
        finally:
            self.over.release()


@dataclass(frozen=True)
class InteractiveRunner:
    """Runs the requests of one model on one pipeline; `run` is for one thread."""

    pipeline: Pipeline
    queue: InteractiveQueue
    doorbell: Doorbell
    settings: Settings

    def run(self) -> None:
        """Take and run until nobody waits or a turn is over, and see the last through.

        Where some still wait the bell is rung again: the models of one process take turns on its device.
        """
        model = self.pipeline.model.name
        over = threading.Semaphore(0)
        turn_over = time.monotonic() + TURN_SECONDS
        under_way = 0
        while True:
            taken = self._start(over) if time.monotonic() < turn_over else 0
            under_way += taken
            if not under_way:
                break
            if not taken and over.acquire(timeout=0.005):
                under_way -= 1
        if self.queue.waiting(model):
            self.doorbell.ring("interactive", model)

    def _start(self, over: threading.Semaphore) -> int:
        """Put what waits into the pipeline, up to a batch; how many it was."""
        model = self.pipeline.model
        taken = self.queue.take(model.name, self.settings.batch_size)
        for request_id, request in taken:
            threshold = seed_threshold(model) if request.threshold is None else request.threshold
            options = Options(model=model.name, threshold=threshold)
            self.pipeline.put(InteractiveTask(request_id, request, model.labels, self.queue, over, options))
        return len(taken)
