"""Celery's face: the doorbells as tasks, and the processes that hear them (the sweeper hears none).

Run as `python -m maskmill.worker.processes.celery_worker PARENT device gpu:0 bulk` or `... PARENT control`, with the
settings in the environment and the process id that it must not outlive; a supervisor does. The main process of a device
worker loads no model: sessions do not survive a fork.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, cast

from celery import Celery, signals
from celery.exceptions import SecurityWarning
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection

from maskmill.shared.doorbell import CONTROL, CONTROL_QUEUE, RUN, celery_app, queue_name
from maskmill.shared.errors import CannotStart, MaskmillError
from maskmill.shared.jobs.records import Lane
from maskmill.shared.logs import set_up_logging
from maskmill.shared.parent import die_with_parent
from maskmill.shared.settings import Settings
from maskmill.worker.processes.heartbeat import (
    BEAT_SECONDS,
    Heartbeat,
    refusal_file,
    stamp_file,
)

CONTROL_THREADS = 8
STDOUT = 1

logger = logging.getLogger(__name__)


def serve_device(settings: Settings, device: str, lane: Lane) -> None:
    """Hear the doorbells of one device and lane until told to stop."""
    from maskmill.worker.device import parse_devices
    from maskmill.worker.processes.device_child import DeviceChild

    app = celery_app(settings)
    # Celery kills a pool's child that has not begun within 4 seconds; a model may need minutes.
    app.conf.worker_proc_alive_timeout = settings.start_seconds
    draining = multiprocessing.Event()
    children: list[DeviceChild] = []
    main_process = os.getpid()

    def open_child(**_: Any) -> None:
        die_with_parent(main_process)
        set_up_logging(settings.log_level, f"{device} {lane}")
        try:
            children.append(DeviceChild(settings, parse_devices(device)[0], lane, draining.is_set))
        except MaskmillError as error:
            refuse(settings, error, main_process)

    def run(model: str) -> None:
        children[0].run(model)

    signals.worker_process_init.connect(open_child, weak=False)
    signals.worker_process_shutdown.connect(lambda **_: children[0].leave(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: draining.set(), weak=False)
    app.task(name=RUN)(run)
    queues = [queue_name(lane, name) for name in _names(settings)]
    heart = _heart(settings, f"{device}-{lane}-consumer")
    _listen(app, settings, queues, ["--pool", "prefork", "--concurrency", "1"], f"{lane}-{device}", heart)


def _names(settings: Settings) -> list[str]:
    """What the models are called; raises CannotStart where two would share a queue."""
    from maskmill.worker.models.package import find

    names = [find(name, settings.models_dir).name for name in settings.models]
    for name in names:
        if names.count(name) > 1:
            raise CannotStart(f"two of MASKMILL_MODELS are called {name}; rename the file or the folder of one")
    return names


def serve_control(settings: Settings) -> None:
    """Do control work until told to stop."""
    from maskmill.worker.processes.wiring import keep_control, open_control

    app = celery_app(settings)
    draining = threading.Event()
    control = open_control(settings, draining.is_set)
    signals.worker_shutting_down.connect(lambda **_: draining.set(), weak=False)

    def run(_: str) -> None:
        control.runner.run()

    app.task(name=CONTROL)(run)
    threading.Thread(target=keep_control, args=(control, CONTROL_THREADS), name="keep", daemon=True).start()
    pool = ["--pool", "threads", "--concurrency", str(CONTROL_THREADS)]
    _listen(app, settings, [CONTROL_QUEUE], pool, "control", _heart(settings, "control-consumer"))


def serve_sweep(settings: Settings) -> None:
    """Sweep until told to stop."""
    from maskmill.worker.processes.wiring import open_sweeper

    draining = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: draining.set())
    open_sweeper(settings).sweep_until(_beating(_heart(settings, "sweep"), draining))


def _beating(heart: Heartbeat, draining: threading.Event) -> Callable[[float], bool]:
    """Waits so many seconds, alive meanwhile; True where it is to drain."""

    def wait(seconds: float) -> bool:
        until = time.monotonic() + seconds
        heart.beat()
        while not draining.is_set() and (left := until - time.monotonic()) > 0:
            draining.wait(min(left, BEAT_SECONDS))
            heart.beat()
        return draining.is_set()

    return wait


def refuse(settings: Settings, error: MaskmillError, main_process: int) -> None:
    """Leave word for the supervisor that starting again would not help, and end this worker."""
    try:
        refusal_file(settings.run_dir, main_process).write_text(f"{error.code}: {error.reason}")
    except OSError as unwritten:
        logger.error("cannot start: %s (and that cannot be left: %s)", error.reason, unwritten)
    os.kill(main_process, signal.SIGKILL)
    os._exit(1)


def _heart(settings: Settings, name: str) -> Heartbeat:
    return Heartbeat(stamp_file(settings.run_dir, f"{name}-{os.getpid()}"))


def _consumer(heart: Heartbeat) -> type[Consumer]:
    """Celery's consumer, beating while its loop turns and while it waits for Redis."""

    class Beating(Consumer):
        def register_with_event_loop(self, hub: Any) -> None:
            super().register_with_event_loop(hub)
            heart.beat()
            # The loop forgets its timers whenever the connection is lost, and comes here again.
            hub.call_repeatedly(BEAT_SECONDS, heart.beat)

        def on_connection_error_after_connected(self, exc: Exception) -> None:
            logger.warning("the connection to Redis is lost: %s", exc)
            with contextlib.suppress(Exception):
                cast(Connection, self.connection).collect()

        def ensure_connected(self, conn: Any) -> Any:
            def complain(error: Exception, seconds: float) -> None:
                logger.warning("waiting for Redis: %s; tried again in %g s", error, seconds)

            def wait() -> None:
                heart.beat()
                maybe_shutdown()

            self.first_connection_attempt = False
            return conn.ensure_connection(complain, callback=wait)

    return Beating


def _listen(app: Celery, settings: Settings, queues: list[str], pool: list[str], name: str, heart: Heartbeat) -> None:
    app.conf.worker_consumer = _consumer(heart)
    node = f"{name.replace(':', '').replace(',', '')}-{os.getpid()}@{settings.host_name}"
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
    app.worker_main(["--quiet", "worker", "--queues", ",".join(queues), "--hostname", node, *pool, *quiet])


def main(arguments: list[str]) -> None:
    """The entry of an exec'd worker process."""
    parent, kind, *rest = arguments
    settings = Settings.from_env(os.environ)
    # Containers run as root; Celery's warning is about pickled messages, which are not accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    die_with_parent(int(parent))
    set_up_logging(settings.log_level, " ".join([kind, *rest]))
    # Celery says there that it stops, without time or name; all else is logged.
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    # Who connects to this signal keeps Celery from setting up logging of its own over it.
    signals.setup_logging.connect(lambda **_: None, weak=False)
    try:
        if kind == "control":
            serve_control(settings)
        elif kind == "sweep":
            serve_sweep(settings)
        else:
            serve_device(settings, rest[0], cast(Lane, rest[1]))
    except ImportError as error:
        lacking = CannotStart(f"{error}; a worker host needs locks/worker.txt or locks/worker-gpu.txt")
        refuse(settings, lacking, os.getpid())
    except CannotStart as error:
        refuse(settings, error, os.getpid())


if __name__ == "__main__":
    main(sys.argv[1:])
