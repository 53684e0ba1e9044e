"""Doorbells: messages that say "there may be work"; the only place that knows Celery's settings.

No promise rests on a message: Celery on Redis loses some when a worker is killed between BRPOP and its
bookkeeping (kombu#305), and delivers others twice. Whoever hears the bell asks the ledger what there is.
"""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from maskmill.shared.connection import reachable
from maskmill.shared.errors import LedgerUnavailable
from maskmill.shared.jobs.records import Lane
from maskmill.shared.settings import Settings

CONTROL_QUEUE = "maskmill.control"
RUN, PLAN, CLOSE = "maskmill.run", "maskmill.plan", "maskmill.close"


def queue_name(lane: Lane, model: str) -> str:
    """The queue of one lane and model."""
    return f"maskmill.{lane}.{model}"


def celery_app(settings: Settings) -> Celery:
    """The Celery application of these settings, for ringing and for hearing."""
    app = Celery("maskmill", broker=settings.redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        task_default_queue=CONTROL_QUEUE,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        # The worker must wait for Redis for ever: the default gives up after 100 tries and stays deaf.
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        # A task outlives a lost connection: the ledger, not the message, decides what it may commit.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        # Publishing must fail soon when Redis is away: a lost bell is rung again by the sweeper.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.2},
        broker_transport_options={
            "global_keyprefix": f"{settings.redis_prefix}:",
            "visibility_timeout": 3600,
            "socket_timeout": 30,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 15,
        },
    )
    return app


class Doorbell:
    """Rings; raises LedgerUnavailable when Redis is away."""

    def __init__(self, settings: Settings) -> None:
        self._app = celery_app(settings)

    def ring(self, lane: Lane, model: str) -> None:
        """There may be work for `model` in `lane`."""
        self._send(RUN, queue_name(lane, model), model)

    def ring_plan(self, job_id: str) -> None:
        """The job has sources to plan."""
        self._send(PLAN, CONTROL_QUEUE, job_id)

    def ring_close(self, job_id: str) -> None:
        """The job is over but for its report."""
        self._send(CLOSE, CONTROL_QUEUE, job_id)

    def _send(self, task: str, queue: str, argument: str) -> None:
        try:
            self._app.send_task(task, args=[argument], queue=queue)
        except OperationalError as error:
            raise LedgerUnavailable(f"the queue does not answer: {error}; check MASKMILL_REDIS_URL") from error

    def waiting(self, queue: str) -> int:
        """How many messages wait in `queue`."""
        try:
            with reachable(), self._app.connection_or_acquire() as connection:
                # Not by declaring the queue: kombu 5.7 looks for it without the key prefix, and finds none.
                return int(connection.default_channel.client.llen(queue))
        except OperationalError as error:
            raise LedgerUnavailable(f"the queue does not answer: {error}; check MASKMILL_REDIS_URL") from error

    def close(self) -> None:
        """Close every connection."""
        self._app.close()
