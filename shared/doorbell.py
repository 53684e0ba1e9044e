"""Doorbells: messages that say "there may be work"; the only place that knows Celery's settings.

No promise rests on a message: Celery on Redis loses some when a worker is killed between BRPOP and its
bookkeeping (kombu#305), and delivers others twice. Whoever hears the bell asks the ledger what there is.
"""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from maskmill.shared.connection import connect, reachable, redis_now
from maskmill.shared.jobs.records import Lane
from maskmill.shared.settings import Settings

CONTROL_QUEUE = "maskmill.control"
RUN, CONTROL = "maskmill.run", "maskmill.control.run"
LISTEN_SECONDS = 30


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
    """Rings, no more often than there are ears; raises LedgerUnavailable when Redis is away."""

    def __init__(self, settings: Settings) -> None:
        self._app = celery_app(settings)
        self._prefix = settings.redis_prefix
        self._redis = connect(settings.redis_url, text=True)

    def ring(self, lane: Lane, model: str, times: int = 1) -> None:
        """There may be work for `model` in `lane`, for so many workers."""
        self._ring(RUN, queue_name(lane, model), model, times)

    def ring_control(self, times: int = 1) -> None:
        """So much control work may be due."""
        self._ring(CONTROL, CONTROL_QUEUE, "", times)

    def listen(self, queue: str, owner: str, ears: int = 1) -> None:
        """Say that `owner` hears the bells of a queue, so many at once; to be said again within LISTEN_SECONDS."""
        with reachable():
            now = redis_now(self._redis)
            self._redis.zadd(self._listeners(queue), {f"{owner}#{ear}": now for ear in range(ears)})
            self._redis.zremrangebyscore(self._listeners(queue), "-inf", now - LISTEN_SECONDS)

    def _ring(self, task: str, queue: str, argument: str, times: int) -> None:
        for _ in range(min(times, self._unheard(queue))):
            with reachable(OperationalError):
                self._app.send_task(task, args=[argument], queue=queue)

    def _unheard(self, queue: str) -> int:
        """How many more bells of a queue there may be: a bell for each who can hear it, and always one."""
        with reachable(), self._redis.pipeline(transaction=False) as pipe:
            pipe.zcount(self._listeners(queue), redis_now(self._redis) - LISTEN_SECONDS, "+inf")
            pipe.llen(f"{self._prefix}:{queue}")
            ears, waiting = pipe.execute()
        return max(max(int(ears), 1) - int(waiting), 0)

    def waiting(self, queue: str) -> int:
        """How many messages wait in `queue`."""
        # Not by declaring the queue: kombu 5.7 looks for it without the key prefix, and finds none.
        with reachable():
            return int(self._redis.llen(f"{self._prefix}:{queue}"))

    def close(self) -> None:
        """Close every connection."""
        self._app.close()
        self._redis.close()

    def _listeners(self, queue: str) -> str:
        return f"{self._prefix}:ears:{queue}"
