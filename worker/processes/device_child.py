"""One process of one device and lane: what it runs when its bell rings, and its signs of life."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial

from maskmill.shared.errors import MaskmillError
from maskmill.shared.jobs.records import Lane
from maskmill.shared.ledger import ModelCard
from maskmill.shared.replies import Replies
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device, limit_threads
from maskmill.worker.interactive import Answerer
from maskmill.worker.models import Model, load
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.processes.heartbeat import BEAT_SECONDS, Heartbeat, stamp_file
from maskmill.worker.processes.wiring import open_services
from maskmill.worker.retry import outage
from maskmill.worker.shards.claimer import Claimer
from maskmill.worker.shards.leases import Leases

SERVE_SECONDS = 10.0
BROKEN_DEVICE_EXIT = 70

logger = logging.getLogger(__name__)


class DeviceChild:
    """One process of one device and lane: its models loaded, its leases renewed, its stamp kept fresh."""

    def __init__(self, settings: Settings, device: Device, lane: Lane, draining: Callable[[], bool]) -> None:
        limit_threads()
        self.owner = f"{settings.host_name}/{device}/{lane}/{os.getpid()}"
        self._settings = settings
        self._services = services = open_services(settings)
        self._leases = Leases(services.ledger)
        self._heart = Heartbeat(stamp_file(settings.run_dir, f"{device}-{lane}-{os.getppid()}"))
        self._heart.begin()
        self._pipelines = [self._open_pipeline(name, device, lane) for name in settings.models]
        open_runner = self._answerer if lane == "interactive" else partial(self._claimer, draining=draining)
        self._runners = {pipeline.model.name: open_runner(pipeline) for pipeline in self._pipelines}
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def _open_pipeline(self, name: str, device: Device, lane: Lane) -> Pipeline:
        model = load(name, device.alone(), self._settings, lane=lane)
        logger.info("model %s (%s, %s) runs on %s", model.name, model.family, model.digest[:12], device)
        return Pipeline(model, self._settings, _give_up)

    def _answerer(self, pipeline: Pipeline) -> Answerer:
        settings = self._settings
        replies = Replies(settings.redis_url, settings.redis_prefix, keep_seconds=settings.interactive_timeout)
        return Answerer(pipeline, replies, settings)

    def _claimer(self, pipeline: Pipeline, draining: Callable[[], bool]) -> Claimer:
        at = self._services
        return Claimer(self.owner, pipeline, at.storage, at.ledger, at.doorbell, at.fetcher, self._leases, draining)

    def run(self, model: str) -> None:
        """Run what is ready for `model` in this child's lane: shards, or requests that wait."""
        self._runners[model].run()

    def leave(self) -> None:
        """Serve no more; whoever asks for a model need not wait to find out."""
        with contextlib.suppress(MaskmillError):
            self._services.ledger.leave(self.owner)

    def _beat(self) -> None:
        cards = [card(pipeline.model) for pipeline in self._pipelines]
        renewed = served = 0.0
        while True:
            now = time.monotonic()
            stalled = any(line.progress.stalled(self._settings.stall_seconds) for line in self._pipelines)
            if outage() or not stalled:
                self._heart.beat()
                if now - renewed > self._settings.lease_seconds / 4:
                    self._leases.renew()
                    renewed = now
                if now - served > SERVE_SECONDS:
                    served = now if self._serve(cards) else 0.0
            time.sleep(min(BEAT_SECONDS, self._settings.lease_seconds / 8))

    def _serve(self, cards: list[ModelCard]) -> bool:
        try:
            self._services.ledger.serve(self.owner, cards)
        except MaskmillError as error:
            logger.warning("not registered: %s", error)
            return False
        return True


def card(model: Model) -> ModelCard:
    """What the ledger tells others of a model."""
    return ModelCard(
        name=model.name,
        digest=model.digest,
        family=model.family,
        labels=model.labels,
        threshold=model.threshold,
        input_size=model.input_size,
    )


def _give_up(error: Exception) -> None:
    logger.critical("the device is lost, the process ends: %s", error)
    os._exit(BROKEN_DEVICE_EXIT)
