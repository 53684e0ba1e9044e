"""kill -9 of every kind of process at random moments: every item still ends with exactly one outcome.

The short form runs with the other tests; `make chaos` runs 2,000 items and 25 kills and prints what was killed.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import FINAL_STATES, JobStatus, Outcome
from tests.services.command_site import CommandSite, draw, run_command_site
from tests.services.workers import kill


def kill_at_random(site: CommandSite, job_id: str, kills: int, seed: int) -> Counter[str]:
    """Kill something every second or so until the job is over or `kills` are done; what was killed."""
    dice, killed = random.Random(seed), Counter[str]()
    while killed.total() < kills:
        time.sleep(dice.uniform(0.3, 1.5))
        site.keep()
        status = site.status(job_id)
        if status and status.state in FINAL_STATES:
            break
        kind, pids = dice.choice([(kind, pids) for kind, pids in site.victims().items() if pids])
        kill(dice.choice(pids))
        killed[kind] += 1
    return killed


def check_whole(site: CommandSite, job_id: str, status: JobStatus, items: int) -> int:
    """Exactly one outcome an item, exact counts, complete artifacts; how many innocents were blamed for two kills."""
    outcomes = site.outcomes(job_id, items)
    assert [outcome.number for outcome in outcomes] == list(range(items))
    ended = Counter(outcome.status for outcome in outcomes)
    counts = status.counts
    assert (counts.total, counts.succeeded, counts.failed) == (items, ended["succeeded"], ended["failed"])
    assert ended["succeeded"] + ended["failed"] == items
    assert {outcome.error.code for outcome in outcomes if outcome.error} <= {"worker_crashed"}
    check_artifacts(site, job_id, [outcome for outcome in outcomes if outcome.status == "succeeded"])
    return ended["failed"]


def check_artifacts(site: CommandSite, job_id: str, outcomes: list[Outcome]) -> None:
    named = {keys.artifact(job_id, name) for outcome in outcomes for name in outcome.artifacts.values()}
    assert named <= set(site.storage.list(keys.artifact(job_id, "")))
    for outcome in outcomes:
        result = json.loads(site.storage.get(keys.artifact(job_id, outcome.artifacts["json"])))
        assert result["input_path"] == outcome.input_path
        picture = site.storage.get(keys.artifact(job_id, outcome.artifacts["image"]))
        assert picture.startswith(b"\xff\xd8")
        assert picture.endswith(b"\xff\xd9")


def run_with_kills(folder: Path, items: int, kills: int, seed: int) -> None:
    draw(folder / "pictures", items)
    with run_command_site(folder) as site:
        job_id = site.submit([folder / "pictures"], local=True)
        started = time.monotonic()
        killed = kill_at_random(site, job_id, kills, seed)
        status = site.wait(job_id, 300)
        blamed = check_whole(site, job_id, status, items)
        took = time.monotonic() - started
        print(f"\n{items} items, {killed.total()} kills in {took:.0f} s, {blamed} blamed: {dict(killed)}")
        assert killed.total() == kills, "the job was over before the kills were; give it more items"
        assert blamed <= 1


def test_every_item_ends_once_under_kill_9(tmp_path: Path) -> None:
    run_with_kills(tmp_path, items=500, kills=6, seed=7)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [1, 2])
def test_every_item_of_a_long_job_ends_once_under_25_kills(tmp_path: Path, seed: int) -> None:
    run_with_kills(tmp_path, items=2000, kills=25, seed=seed)
