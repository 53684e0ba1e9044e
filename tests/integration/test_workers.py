"""What the workers promise of jobs, with real processes, a real Redis and real files."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image as Pillow

from maskmill.deploy.demo.scenes import draw_scene
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Options
from maskmill.shared.jobs.sources import PathSource, PdfOptions, UploadSource, UrlSource
from maskmill.shared.ledger import Ledger
from tests.integration.conftest import draw_pictures
from tests.services import FileServer, run_redis
from tests.services.workers import Workers, descendants, kill, run_workers, settings_for, wait_until


@pytest.fixture(scope="module")
def workers(place: Path) -> Iterator[Workers]:
    with run_redis() as redis, run_workers(settings_for(place, redis.url)) as running:
        yield running


def test_every_file_of_a_folder_becomes_a_result_in_natural_order(workers: Workers, place: Path) -> None:
    job_id = workers.submit([PathSource(path=str(place / "pictures/many"))])
    report = workers.wait(job_id)
    assert (report.state, report.counts.total, report.counts.succeeded) == ("completed", 40, 40)
    assert [item.name for item in workers.items(job_id)] == [f"picture {number}" for number in range(40)]
    names = {f"picture {number}_res.{suffix}" for number in range(40) for suffix in ("json", "jpg")}
    assert set(workers.artifacts(job_id)) == names


def test_a_result_file_has_the_seeds_keys_in_order(workers: Workers, place: Path) -> None:
    path = place / "pictures/many/picture 0.jpg"
    job_id = workers.submit([PathSource(path=str(path))])
    workers.wait(job_id)
    result = json.loads(workers.artifacts(job_id)["picture 0_res.json"])
    assert list(result)[:4] == ["input_path", "page_index", "boxes", "masks"]
    assert (result["input_path"], result["width"], result["height"]) == (str(path), 160, 120)


def test_the_same_inputs_give_the_same_bytes_whatever_shares_their_batch(workers: Workers, place: Path) -> None:
    sources = [PathSource(path=str(place / "pictures/many"))]
    first = workers.submit(sources, shard_size=32)
    second = workers.submit(sources, shard_size=3)
    workers.wait(first)
    workers.wait(second)
    assert workers.artifacts(first) == workers.artifacts(second)


def test_a_bad_input_fails_alone_with_its_own_code(workers: Workers, place: Path) -> None:
    folder = draw_pictures(place / "pictures/mixed", 4)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture")
    (folder / "cut.jpg").write_bytes((folder / "picture 1.jpg").read_bytes()[:1500])
    job_id = workers.submit([PathSource(path=str(folder)), PathSource(path="/etc/passwd")])
    assert workers.wait(job_id).state == "completed"
    failures = {
        Path(outcome.input_path).name: outcome.error.code for outcome in workers.outcomes(job_id) if outcome.error
    }
    assert failures == {
        "empty.jpg": "empty",
        "text.jpg": "unsupported_format",
        "cut.jpg": "truncated",
        "passwd": "path_refused",
    }
    assert sum(outcome.status == "succeeded" for outcome in workers.outcomes(job_id)) == 4


def test_a_pdf_and_a_tiff_behind_urls_become_their_pages(workers: Workers, file_server: FileServer) -> None:
    for format_name in ("PDF", "TIFF"):
        pages = [Pillow.fromarray(draw_scene(number, 90, 60).image) for number in range(4)]
        data = io.BytesIO()
        pages[0].save(data, format_name, save_all=True, append_images=pages[1:], resolution=72.0)
        file_server.add(f"book.{format_name.lower()}", data.getvalue())
    pdf = PdfOptions(pages="2-3", dpi=144)
    sources = [UrlSource(url=file_server.url("book.pdf"), pdf=pdf), UrlSource(url=file_server.url("book.tiff"))]
    job_id = workers.submit(sources)
    workers.wait(job_id)
    found = [(outcome.page_index, outcome.width, outcome.height) for outcome in workers.outcomes(job_id)]
    assert found == [(1, 180, 120), (2, 180, 120), *[(page, 90, 60) for page in range(4)]]
    assert [item.name for item in workers.items(job_id)][:2] == ["book.pdf_1", "book.pdf_2"]
    assert len(set(workers.artifacts(job_id))) == 12


def test_names_that_collide_are_kept_apart(workers: Workers, place: Path) -> None:
    data = (place / "pictures/many/picture 3.jpg").read_bytes()
    workers.storage.put("jobs/shared/inputs/a", data)
    sources = [UploadSource(name=name, key="jobs/shared/inputs/a") for name in ("a.jpg", "a.png", "a-2.jpg")]
    job_id = workers.submit(sources)
    workers.wait(job_id)
    assert [item.name for item in workers.items(job_id)] == ["a", "a.png", "a-2"]
    assert len(workers.artifacts(job_id)) == 6


def test_a_failing_share_above_the_limit_fails_the_job_and_skips_the_rest(workers: Workers, place: Path) -> None:
    folder = place / "pictures/hopeless"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.jpg").write_text("no picture")
    options = Options(max_failure_rate=0.1)
    job_id = workers.submit([PathSource(path=str(folder))], options, shard_size=2)
    report = workers.wait(job_id)
    assert report.error
    assert (report.state, report.error.code) == ("failed", "too_many_failures")
    assert [outcome.number for outcome in workers.outcomes(job_id)] == list(range(30))
    assert report.counts.failed + report.counts.skipped == 30


def test_a_cancelled_job_gives_every_planned_item_an_outcome(workers: Workers, place: Path) -> None:
    job_id = workers.submit([PathSource(path=str(place / "pictures/many"))] * 20, shard_size=4)
    workers.wait_for_progress(job_id, 8)
    workers.ledger.cancel(job_id)
    report = workers.wait(job_id)
    assert report.state == "cancelled"
    assert report.counts.skipped
    planned = [item.number for item in workers.items(job_id)]
    assert (report.counts.total, report.counts.done) == (len(planned), len(planned))
    # Those that a worker may have claimed have a file of outcomes; what was never within its reach is counted.
    stored = [outcome.number for outcome in workers.outcomes(job_id)]
    assert stored == planned[: len(stored)]
    assert report.counts.succeeded == sum(outcome.status == "succeeded" for outcome in workers.outcomes(job_id))


def test_a_paused_job_stands_still_and_goes_on(workers: Workers, place: Path) -> None:
    job_id = workers.submit([PathSource(path=str(place / "pictures/many"))] * 5, shard_size=4)
    workers.wait_for_progress(job_id, 4)
    workers.ledger.pause(job_id)
    assert workers.storage.size(keys.report(job_id)) is None
    workers.ledger.resume(job_id)
    report = workers.wait(job_id)
    assert (report.state, report.counts.succeeded) == ("completed", 200)


def test_a_killed_worker_costs_no_item(workers: Workers, place: Path) -> None:
    job_id = workers.submit([PathSource(path=str(place / "pictures/many"))] * 5, shard_size=4)
    workers.wait_for_progress(job_id, 20)
    for pid in workers.processes("maskmill.worker.processes.celery_worker", "device"):
        kill(pid)
    report = workers.wait(job_id)
    assert (report.counts.succeeded, report.counts.failed) == (200, 0)
    assert [outcome.number for outcome in workers.outcomes(job_id)] == list(range(200))


def test_an_input_that_kills_its_worker_twice_is_failed_and_its_neighbours_succeed(
    workers: Workers, place: Path
) -> None:
    picture = (place / "pictures/many/picture 0.jpg").read_bytes()
    with serve_poison(picture) as url:
        sources = [UrlSource(url=f"{url}/{name}.jpg") for name in ("a", "b", "poison", "c", "d")]
        job_id = workers.submit(sources)
        workers.wait(job_id)
    statuses = [(outcome.status, outcome.error and outcome.error.code) for outcome in workers.outcomes(job_id)]
    fine = ("succeeded", None)
    assert statuses == [fine, fine, ("failed", "worker_crashed"), fine, fine]


class serve_poison:  # noqa: N801 - reads as a verb
    """A web server whose poison.jpg kills the process that asks for it (not the planner, which reads only its head)."""

    def __init__(self, picture: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "poison" in self.path:
                    for pid in _with_socket_to(self.client_address[1]):
                        kill(pid)
                self.send_response(200)
                self.send_header("Content-Length", str(len(picture)))
                self.end_headers()
                self.wfile.write(picture)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _with_socket_to(port: int) -> list[int]:
    """Ids of the device workers that hold the local end of a connection from `port`."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{line[9]}]" for line in lines if int(line[1].split(":")[1], 16) == port}
    return [
        pid
        for pid in descendants(os.getpid())
        if b"device" in Path(f"/proc/{pid}/cmdline").read_bytes()
        and inodes & {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    ]


def test_workers_that_are_drained_take_their_name_off(tmp_path: Path, redis_url: str) -> None:
    settings = settings_for(tmp_path, redis_url)
    with run_workers(settings):
        pass
    assert Ledger(settings.redis_url, settings.redis_prefix).workers() == {}


def test_a_cancelled_job_stays_cancelled_when_redis_forgets_it(workers: Workers, place: Path) -> None:
    job_id = workers.accept([PathSource(path=str(place / "pictures/many"))])
    workers.storage.put(keys.cancelled(job_id), b"")
    report = workers.wait(job_id)
    assert (report.state, report.counts.succeeded) == ("cancelled", 0)


def test_a_job_that_was_accepted_and_never_entered_runs_all_the_same(workers: Workers, place: Path) -> None:
    job_id = workers.accept([PathSource(path=str(place / "pictures/many"))])
    assert workers.wait(job_id).counts.succeeded == 40


def test_a_plan_is_pages_of_shards_and_the_last_page_has_no_cursor(workers: Workers, place: Path) -> None:
    job_id = workers.submit([PathSource(path=str(place / "pictures/many"))], shard_size=1)
    workers.wait(job_id)
    files = workers.files(job_id)
    pages = [files.page(number) for number in range(files.page_count())]
    assert [(page.number, len(page.items), page.cursor is None) for page in pages if page] == [
        (0, 32, False),
        (1, 8, True),
    ]
    wait_until(lambda: not workers.ledger.is_open(job_id), 10)
