"""A whole bucket, from one to another, while planner and workers are killed and Redis is lost: the books are exact.

The short form runs with the other tests; `make chaos` runs 5,000 objects, twenty kills of a planner, ten of a worker
and three losses of Redis with its data.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from maskmill.shared.jobs.records import FINAL_STATES
from tests.services import SeaweedServer
from tests.services.command_site import CommandSite, draw, run_command_site
from tests.services.workers import kill

PICTURES = 50
# A control whose planner dies again and again takes longer and longer to start another, unless it dies itself.
KINDS = {"planner": ("planner", "control"), "worker": ("worker child", "worker child's parent", "whole worker")}


@dataclass(frozen=True)
class Buckets:
    """Where the pictures are and where the results go, on that server."""

    server: SeaweedServer
    photos: str
    masks: str

    def fill(self, folder: Path, objects: int) -> set[str]:
        """Put so many pictures; their URLs."""
        draw(folder, PICTURES)
        pictures = [path.read_bytes() for path in sorted(folder.iterdir())]
        client = self.server.client()
        keys = [f"2026/{number % 7} of 7/{number:05d}.jpg" for number in range(objects)]

        def put(number: int) -> None:
            client.put_object(Bucket=self.photos, Key=keys[number], Body=pictures[number % PICTURES])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, range(objects)))
        return {f"s3://{self.photos}/{key}" for key in keys}

    def results(self) -> set[str]:
        """The keys of all that is stored for the user."""
        pages = self.server.client().get_paginator("list_objects_v2").paginate(Bucket=self.masks)
        return {one["Key"] for page in pages for one in page["Contents"]}


@pytest.fixture
def buckets(s3_server: SeaweedServer) -> Buckets:
    return Buckets(s3_server, s3_server.make_bucket(), s3_server.make_bucket())


@pytest.fixture
def site(tmp_path: Path, buckets: Buckets) -> Iterator[CommandSite]:
    """The commands over a store of buckets, which may read the one and write the other."""
    (tmp_path / "buckets.toml").write_text(f"[{buckets.photos}]\n[{buckets.masks}]\nwrite = true\n")
    more = {
        **buckets.server.env,
        "MASKMILL_STORAGE_URL": f"s3://{buckets.server.make_bucket()}/jobs",
        "MASKMILL_BUCKETS": f"{tmp_path}/buckets.toml",
        # Pages of 64 items, so that a planner has something to be killed at.
        "MASKMILL_SHARD_SIZE": "2",
        "MASKMILL_WINDOW_SHARDS": "64",
    }
    with run_command_site(tmp_path, **more) as running:
        yield running


def break_it(site: CommandSite, job_id: str, harm: Counter[str]) -> Counter[str]:
    """Kill and lose so much, in any order; what was done before the job was over."""
    dice, done = random.Random(5), Counter[str]()
    left = list(harm.elements())
    dice.shuffle(left)
    while left:
        time.sleep(dice.uniform(0.2, 1.0))
        site.keep()
        status = site.status(job_id)
        if status and status.state in FINAL_STATES:
            break
        if left[-1] == "Redis":
            site.redis.lose_everything()
        elif pids := [pid for victim in KINDS[left[-1]] for pid in site.victims()[victim]]:
            kill(dice.choice(pids))
        else:
            continue
        done[left.pop()] += 1
    return done


def check(site: CommandSite, job_id: str, urls: set[str], stored: set[str]) -> None:
    status = site.wait(job_id, 60)
    outcomes = site.outcomes(job_id, len(urls))
    assert [outcome.number for outcome in outcomes] == list(range(len(urls)))
    assert {outcome.input_path for outcome in outcomes} == urls
    ended, counts = Counter(outcome.status for outcome in outcomes), status.counts
    assert status.state == "completed"
    assert (counts.total, counts.succeeded, counts.failed) == (len(urls), ended["succeeded"], ended["failed"])
    assert {outcome.error.code for outcome in outcomes if outcome.error} <= {"worker_crashed"}
    assert ended["failed"] <= 1
    named = {f"run/{name}" for outcome in outcomes for name in outcome.artifacts.values()}
    assert named <= stored
    assert {key for key in stored - named if not key.startswith(f"run/_maskmill/{job_id}/")} == {"run/_SUCCESS"}


def run(site: CommandSite, buckets: Buckets, folder: Path, objects: int, harm: Counter[str]) -> None:
    urls = buckets.fill(folder / "pictures", objects)
    job_id = site.submit([f"s3://{buckets.photos}/2026/**/*.jpg"], output=f"s3://{buckets.masks}/run/")
    began = time.monotonic()
    done = break_it(site, job_id, harm)
    site.wait(job_id, 600)
    check(site, job_id, urls, buckets.results())
    print(f"\n{objects} objects in {time.monotonic() - began:.0f} s: {dict(done)}")
    assert done == harm, "the job was over before; give it more objects"


def test_a_bucket_is_done_once_whatever_dies(site: CommandSite, buckets: Buckets, tmp_path: Path) -> None:
    run(site, buckets, tmp_path, 400, Counter(planner=4, worker=2, Redis=1))


@pytest.mark.chaos
def test_a_bucket_of_5000_objects_is_done_once_whatever_dies(
    site: CommandSite, buckets: Buckets, tmp_path: Path
) -> None:
    run(site, buckets, tmp_path, 5000, Counter(planner=20, worker=10, Redis=3))
