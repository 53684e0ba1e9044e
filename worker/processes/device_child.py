"""One process of one device and lane: what it runs when its bell rings, and its signs of life."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial

from maskmill.shared.doorbell import queue_name
from maskmill.shared.errors import MaskmillError
from maskmill.shared.jobs.records import Lane
from maskmill.shared.ledger import ModelCard
from maskmill.shared.replies import InteractiveQueue
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device, limit_threads
from maskmill.worker.interactive import InteractiveRunner
from maskmill.worker.models import Model, load
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.pipeline.progress import Progress
from maskmill.worker.processes.heartbeat import BEAT_SECONDS, Heartbeat, stamp_file
from maskmill.worker.processes.wiring import open_services
from maskmill.worker.retry import Said, outage, trouble
from maskmill.worker.shards.claimer import Claimer
from maskmill.worker.shards.expansion import ChunkExpander
from maskmill.worker.shards.leases import Leases
from maskmill.worker.sources.pages import Expander

SERVE_SECONDS = 10.0
TIDY_SECONDS = 3600.0
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
        self._looking = Progress()
        self._lane = lane
        self._told = ""
        self._heart = Heartbeat(stamp_file(settings.run_dir, f"{device}-{lane}-{os.getppid()}"))
        self._heart.begin()
        self._pipelines = [self._open_pipeline(name, device, lane) for name in settings.models]
        open_runner = self._interactive_runner if lane == "interactive" else partial(self._claimer, draining=draining)
        self._runners = {pipeline.model.name: open_runner(pipeline) for pipeline in self._pipelines}
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        if lane == "interactive":
            threading.Thread(target=self._tidy, name="tidy", daemon=True).start()

    def _open_pipeline(self, name: str, device: Device, lane: Lane) -> Pipeline:
        model = load(name, device.alone(), self._settings, lane=lane)
        logger.info("model %s (%s, %s) runs on %s", model.name, model.family, model.digest[:12], device)
        return Pipeline(model, self._settings, _give_up)

    def _interactive_runner(self, pipeline: Pipeline) -> InteractiveRunner:
        at = self._services
        return InteractiveRunner(pipeline, InteractiveQueue(self._settings, at.storage), at.doorbell, self._settings)

    def _claimer(self, pipeline: Pipeline, draining: Callable[[], bool]) -> Claimer:
        at = self._services
        looker = ChunkExpander(at.ledger, Expander(self._settings, at.storage, at.fetcher), self._looking)
        return Claimer(
            owner=self.owner,
            pipeline=pipeline,
            storage=at.storage,
            outputs=at.outputs,
            ledger=at.ledger,
            doorbell=at.doorbell,
            fetcher=at.fetcher,
            expander=looker,
            leases=self._leases,
            draining=draining,
        )

    def run(self, model: str) -> None:
        """Run what is ready for `model` in this child's lane: shards, or requests that wait."""
        self._runners[model].run()

    def leave(self) -> None:
        """Serve no more; whoever asks for a model need not wait to find out."""
        with contextlib.suppress(MaskmillError):
            self._services.ledger.leave(self.owner)

    def _beat(self) -> None:
        renew_every = max(round(self._settings.lease_seconds / 4 / self._pause), 1)
        serve_every = max(round(SERVE_SECONDS / self._pause), 1)
        missed, said = False, Said()
        for number in itertools.count():
            renew, serve = number % renew_every == 0, missed or number % serve_every == 0
            missed = True
            try:
                self._beat_once(renew=renew, serve=serve)
                missed = False
            except MaskmillError as error:
                if said.is_news(error):
                    logger.warning("not renewed or registered: %s", error)
            except Exception:
                # Without this thread the supervisor would end a worker that works.
                logger.exception("not renewed or registered")
            time.sleep(self._pause)

    @property
    def _pause(self) -> float:
        return min(BEAT_SECONDS, self._settings.lease_seconds / 8)

    def _beat_once(self, *, renew: bool, serve: bool) -> None:
        moving = [self._looking, *(pipeline.progress for pipeline in self._pipelines)]
        if not outage() and any(progress.stalled(self._settings.stall_seconds) for progress in moving):
            return
        self._heart.beat()
        now_waits_for = trouble()
        if renew:
            self._leases.renew(now_waits_for)
        if serve or now_waits_for != self._told:
            models = [pipeline.model for pipeline in self._pipelines]
            self._services.ledger.serve(self.owner, [card(model) for model in models], now_waits_for)
            for model in models:
                self._services.doorbell.listen(queue_name(self._lane, model.name), self.owner)
            self._told = now_waits_for

    def _tidy(self) -> None:
        queue = InteractiveQueue(self._settings, self._services.storage)
        while True:
            try:
                if count := queue.expire():
                    logger.info("deleted %d leftovers of interactive requests", count)
            except MaskmillError as error:
                logger.warning("leftovers of interactive requests are not deleted: %s", error)
            except Exception:
                # Without this thread they would stay for good.
                logger.exception("leftovers of interactive requests are not deleted")
            time.sleep(TIDY_SECONDS)


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
