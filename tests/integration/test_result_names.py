"""From an input's name to its results', all the way: client, API, planner and workers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image as Pillow

from maskmill.api.services import Services
from maskmill.api.submission import uploads
from maskmill.api.submission.uploads import Uploads
from maskmill.client.client import Client
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.sources import PathSource, UrlSource
from maskmill.worker.sources import artifact_names
from maskmill.worker.sources.listing import source_names
from tests.services import run_redis
from tests.services.api_server import run_api
from tests.services.workers import Workers, run_workers, settings_for


@dataclass(frozen=True)
class Site:
    """API and workers that share a folder, and a client of theirs."""

    client: Client
    workers: Workers

    def run(self, inputs: list[Path], *, local: bool = False) -> tuple[list[dict[str, Any]], set[str]]:
        """The items of the job that these inputs make, once it is over, and the names of its artifacts."""
        job_id = self.client.submit(inputs, local=local).id
        self.workers.wait(job_id)
        return list(self.client.items(job_id)), set(self.workers.artifacts(job_id))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with run_redis() as redis:
        settings = settings_for(folder, redis.url)
        with run_workers(settings) as workers, run_api(settings, folder) as api:
            yield Site(Client(api.url), workers)


@pytest.fixture
def pictures(site: Site, request: pytest.FixtureRequest) -> Path:
    """A folder of the test's own that the workers may read."""
    folder = site.workers.settings.local_roots[0] / request.node.name
    folder.mkdir(parents=True)
    return folder


def draw(path: Path, form: str = "JPEG", **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", (72, 72), "white").save(path, form, **more)
    return path


def pdf(path: Path, pages: int) -> Path:
    more = [Pillow.new("RGB", (72, 72), "white") for _ in range(pages - 1)]
    return draw(path, "PDF", save_all=True, append_images=more)


def both(*names: str) -> set[str]:
    return {f"{name}_res.{suffix}" for name in names for suffix in ("json", "jpg")}


@pytest.mark.parametrize("local", [False, True], ids=["uploaded", "on the server"])
def test_folders_keep_their_names_through_the_whole_job(site: Site, tmp_path: Path, local: bool) -> None:
    top = site.workers.settings.local_roots[0] / tmp_path.name if local else tmp_path
    for name in ("cats/1.jpg", "cats/1.png", "dogs/1.jpg", "dogs/deep/1.jpg"):
        draw(top / name, "PNG" if name.endswith("png") else "JPEG")
    items, artifacts = site.run([top / "cats", top / "dogs"], local=local)
    assert [item["status"] for item in items] == ["succeeded"] * 4
    assert artifacts == both("cats/1", "cats/1.png", "dogs/1", "dogs/deep/1")


def test_a_pdf_that_is_called_a_jpg_becomes_its_pages_where_it_is_uploaded(site: Site, tmp_path: Path) -> None:
    items, artifacts = site.run([pdf(tmp_path / "scan.jpg", 3)])
    assert [(item["status"], item["page_index"]) for item in items] == [("succeeded", page) for page in range(3)]
    assert artifacts == both("scan.jpg_0", "scan.jpg_1", "scan.jpg_2")


def test_a_pdf_that_is_called_a_jpg_in_a_folder_of_the_servers_says_so(site: Site, pictures: Path) -> None:
    pdf(pictures / "scan.jpg", 3)
    draw(pictures / "good.jpg")
    items, artifacts = site.run([pictures], local=True)
    assert [item["status"] for item in items] == ["succeeded", "failed"]
    reason = "this is a PDF with pages, and its name says a picture; name it .pdf"
    assert (items[1]["error"]["code"], items[1]["error"]["reason"]) == ("unsupported_format", reason)
    assert artifacts == both("good")


def test_a_picture_without_a_suffix_runs(site: Site, pictures: Path) -> None:
    draw(pictures / "picture")
    draw(pictures / "deep/scan_1")
    draw(pictures / "looks-like.dat")
    pdf(pictures / "document", 2)
    (pictures / "notes").write_text("no picture")
    items, artifacts = site.run([pictures], local=True)
    assert [item["status"] for item in items] == ["succeeded"] * 5
    assert artifacts == both("picture.", "deep/scan_1.", "looks-like.dat", "document._0", "document._1")


def test_a_neighbour_that_goes_renames_nothing(site: Site, pictures: Path) -> None:
    for name, form in (("a.bmp", "BMP"), ("a.png", "PNG"), ("a_0.png", "PNG")):
        draw(pictures / name, form)
    pdf(pictures / "a.pdf", 1)
    before, _ = site.run([pictures], local=True)
    (pictures / "a.bmp").unlink()
    (pictures / "a_0.png").unlink()
    after, _ = site.run([pictures], local=True)
    named = {item["input_path"]: item["artifacts"] for item in before}
    assert {item["input_path"]: item["artifacts"] for item in after}.items() <= named.items()
    assert len({name for item in before for name in item["artifacts"].values()}) == 8


def steps(action: Callable[[], object], *files: str) -> int:
    """How many lines of these source files `action` runs."""
    count = 0

    def local(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:
        return local if frame.f_code.co_filename in files else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def upload(services: Services, count: int) -> list[str]:
    settings = services.settings.model_copy(update={"max_sources": count})
    received = Uploads(JobFiles(services.storage, "0123456789"), settings, f"folder-{count}")
    for _ in range(count):
        received.add("a.jpg", [b"x"], pointer="/files")
    received.wait()
    return [source.name for source in received.sources]


def test_two_thousand_uploads_of_one_name_are_apart_and_each_costs_the_same(services: Services) -> None:
    names: list[str] = []
    few, many = (
        steps(lambda count=count: names.extend(upload(services, count)), str(uploads.__file__))  # type: ignore[misc]
        for count in (100, 2000)
    )
    assert len(set(names[100:])) == 2000
    assert names[100:103] == ["a.jpg", "a-2.jpg", "a-3.jpg"]
    assert many < 25 * few, "lines run for 20 times the files"


def test_two_thousand_urls_of_one_name_are_apart_and_each_costs_the_same() -> None:
    def urls(count: int) -> list[UrlSource]:
        return [UrlSource(url=f"https://example.org/{number}/a.jpg") for number in range(count)]

    few, many = (
        steps(lambda count=count: source_names(urls(count)), str(artifact_names.__file__))  # type: ignore[misc]
        for count in (100, 2000)
    )
    assert len(set(source_names(urls(2000)))) == 2000
    assert many < 25 * few, "lines run for 20 times the sources"


def test_folders_of_one_name_are_apart() -> None:
    sources = [PathSource(path=path) for path in ("/x/cats", "/y/cats", "/x/cats.jpg")]
    assert source_names(sources) == ["cats", "cats-2", "cats.jpg"]
