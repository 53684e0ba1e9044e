"""A planner that is killed again and again, and the plan that comes of it."""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from dataclasses import dataclass

from benchmarks.at_scale.bench import Bench
from benchmarks.at_scale.control import GLANCE_SECONDS, sweeper
from benchmarks.at_scale.process import Role
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import SHARDS_A_PAGE
from maskmill.worker.control.sweeper import Sweeper

# About what a page takes: a kill may fall anywhere in it.
PAGE_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """The pages of a plan, the items in them and what they are, and whether the ledger counts as many."""

    pages: int
    items: int
    names: int
    digest: str
    counted: bool

    @classmethod
    def read(cls, bench: Bench, job_id: str) -> Plan:
        """What is stored of it."""
        files, digest, items, names = JobFiles(bench.storage(), job_id), hashlib.sha256(), 0, set[str]()
        for number in itertools.count():
            page = files.page(number)
            if page is None:
                break
            digest.update(page.encode())
            items += len(page.items)
            names |= {item.name for item in page.items}
        status = bench.ledger().status(job_id)
        assert status is not None
        counts = (status.state, status.counts.planned, status.counts.total)
        return cls(number, items, len(names), digest.hexdigest()[:16], counts == ("running", items, items))


def plan_with_kills(bench: Bench, job_id: str, count: int, kills: int) -> int:
    """Plan a job of `count` items by one planner after the other, `kills` of which are killed -9 in the middle.

    Nobody rings after a kill but the sweeper. How many of them left a page that was stored and not counted.
    """
    sweeps, chance, between = sweeper(bench, bench.at(0).storage()), random.Random(0), 0
    for kill in range(kills):
        role = Role("control", "plan", bench, job_id)
        role.go()
        _sweep_until_planned(sweeps, job_id, (kill + 1) * count // (kills + 1))
        time.sleep(chance.uniform(0, PAGE_SECONDS))
        role.kill()
        between += _has_uncounted_page(sweeps, job_id)
    role = Role("control", "plan", bench, job_id)
    role.go()
    _sweep_until_planned(sweeps, job_id, count)
    role.report()
    return between


def _sweep_until_planned(sweeps: Sweeper, job_id: str, items: int) -> None:
    while _planned(sweeps, job_id) < items:
        sweeps.sweep()
        time.sleep(GLANCE_SECONDS / 5)


def _planned(sweeps: Sweeper, job_id: str) -> int:
    status = sweeps.ledger.status(job_id)
    assert status is not None
    return status.counts.planned


def _has_uncounted_page(sweeps: Sweeper, job_id: str) -> bool:
    counted = _planned(sweeps, job_id) // (sweeps.settings.shard_size * SHARDS_A_PAGE)
    return JobFiles(sweeps.storage, job_id).page_count() > counted
