"""A job that is small for its workers has small shards, so that all of them are busy to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskmill.shared.jobs.sources import PathSource
from maskmill.shared.ledger import ModelCard
from maskmill.worker.control import planner
from tests.integration.conftest import SHAPES
from tests.services.control_site import ControlSite, Killed

LARGEST = 32


def serve(site: ControlSite, workers: int, card: ModelCard = SHAPES) -> None:
    for number in range(workers):
        site.ledger.serve(f"{card.name}/gpu:{number}/bulk/{number}", [card])
        site.ledger.serve(f"{card.name}/gpu:{number}/interactive/{number}", [card])


def size_of(site: ControlSite, ref: str) -> int:
    head = site.files(ref).head()
    assert head
    return head.shard_size


@pytest.mark.parametrize(
    ("items", "workers", "size"),
    [(395, 1, 32), (395, 4, 8), (395, 8, 4), (395, 16, 2), (20, 16, 1), (0, 16, 1), (2000, 2, 32), (2000, 16, 10)],
)
def test_shards_are_enough_for_the_workers_that_serve_the_model(
    site: ControlSite, items: int, workers: int, size: int
) -> None:
    serve(site, workers)
    serve(site, 40, SHAPES.model_copy(update={"name": "another"}))
    ref = site.plan(items, shard_size=LARGEST)
    assert size_of(site, ref) == size
    shards = -(-items // size)
    site.work(ref, shards)
    site.runner().run()
    numbers = [one.number for shard in range(shards) for one in site.files(ref).outcomes(shard) or ()]
    assert numbers == list(range(items))
    assert site.report(ref).counts.done == items


def test_a_large_job_has_large_ones(site: ControlSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "SMALL_JOB", 100)
    serve(site, 16)
    assert size_of(site, site.plan(101, shard_size=LARGEST)) == LARGEST
    assert size_of(site, site.plan(100, shard_size=LARGEST)) == 1


@pytest.mark.parametrize("end", ["sized.json", "plan/00000000.jsonl", "plan/00000003.jsonl"])
def test_planners_that_die_or_meet_agree_on_the_size(site: ControlSite, end: str) -> None:
    serve(site, 8)
    ref = site.submit(395, shard_size=LARGEST)
    site.storage.kill_once("put", end)
    with pytest.raises(Killed):
        site.runner().run()
    # Meanwhile workers have come: what is settled stays, what is not is settled anew.
    serve(site, 16)
    site.make_due()
    site.runner().run()
    assert size_of(site, ref) == (2 if end == "sized.json" else 4)
    assert site.status(ref).counts.total == 395
    items = [item.number for page in range(site.files(ref).page_count()) for item in page_items(site, ref, page)]
    assert items == list(range(395))


def page_items(site: ControlSite, ref: str, number: int) -> list[object]:
    page = site.files(ref).page(number)
    assert page
    return list(page.items)


def test_what_is_left_out_is_told_with_its_page_though_listed_ahead(site: ControlSite, tmp_path: Path) -> None:
    serve(site, 8)
    pictures = tmp_path / "pictures"
    for number in range(10):
        folder = pictures / f"{number:02d}"
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("no picture")
        for picture in range(60):
            (folder / f"{picture:02d}.jpg").write_bytes(b"x")
    ref = site.submit([PathSource(path=str(pictures))], shard_size=LARGEST)
    site.storage.kill_once("put", "plan/00000001.jsonl")
    with pytest.raises(Killed):
        site.runner().run()
    site.make_due()
    site.runner().run()
    status = site.status(ref)
    assert status.counts.total == 600
    assert status.left_out.total == 10
    first = site.files(ref).page(0)
    assert first
    assert first.left_out.total < 10
