"""Answer those who wait: interactive requests through the same pipeline, batched when several wait at once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from maskmill.shared.errors import MaskmillError
from maskmill.shared.jobs.records import Options
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.replies import Answer, Ask, Replies
from maskmill.shared.settings import Settings
from maskmill.worker.masks.segmented import Segmented
from maskmill.worker.models import seed_threshold
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.pipeline.task import Done
from maskmill.worker.rendering.draw import draw
from maskmill.worker.rendering.encode import encode_image, seed_instances
from maskmill.worker.retry import patiently


@dataclass
class AskTask:
    """A request as the pipeline sees it; its reply goes to the one who waits."""

    request_id: str
    ask: Ask
    labels: tuple[str, ...]
    replies: Replies
    over: threading.Semaphore
    options: Options
    page_index: int | None = None
    pdf: PdfOptions | None = None

    def wanted(self) -> bool:
        return True

    def fetch(self) -> bytes:
        return self.ask.image

    def finish(self, segmented: Segmented) -> Answer:
        height, width = segmented.image.shape[:2]
        instances = seed_instances(segmented.instances, self.labels, height, width)
        drawn = None
        if self.ask.visualize:
            drawn = encode_image(draw(segmented.image, segmented.instances, self.labels, in_place=True), "jpg")
        return Answer(width=width, height=height, instances=[dict(instance) for instance in instances], image=drawn)

    def deliver(self, answer: Answer) -> None:
        patiently(self.replies.answer, self.request_id, answer)

    def done(self, done: Done) -> None:
        try:
            if done.failure:
                status = done.error.status if isinstance(done.error, MaskmillError) else 500
                patiently(self.replies.answer, self.request_id, Answer(failure=done.failure, status=status))
        finally:
            self.over.release()


@dataclass
class Answerer:
    """Answers the requests of one model; `run` is for one thread."""

    pipeline: Pipeline
    replies: Replies
    settings: Settings
    _over: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def run(self) -> None:
        """Answer until nobody waits any more."""
        under_way = 0
        model = self.pipeline.model
        while True:
            taken = self.replies.take(model.name, self.settings.batch_size)
            for request_id, ask in taken:
                threshold = seed_threshold(model) if ask.threshold is None else ask.threshold
                options = Options(model=model.name, threshold=threshold)
                self.pipeline.put(AskTask(request_id, ask, model.labels, self.replies, self._over, options))
            under_way += len(taken)
            if not under_way:
                return
            if not taken and self._over.acquire(timeout=0.005):
                under_way -= 1
