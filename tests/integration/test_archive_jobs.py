"""Jobs over archives: from a bucket, an upload, a URL and a server's folder; killed and resumed on the way."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.shared.egress.http import Egress
from maskmill.shared.folder_inputs import Reason
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import SHARDS_A_PAGE, Job
from maskmill.shared.jobs.sources import PathSource, S3Source, UploadSource, UrlSource
from maskmill.shared.ledger import ShardLease
from maskmill.shared.settings import Settings
from maskmill.worker.control.planner import CHUNK_ARCHIVES
from maskmill.worker.pipeline.progress import Progress
from maskmill.worker.shards.expansion import ChunkExpander
from maskmill.worker.shards.shard_run import Held
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.pages import Expander
from tests.archives import MAKERS, gz_of, in_directory, patched, tar_of, zip_of
from tests.integration.test_workers import serve_poison
from tests.onnx_models import head_of, write_package
from tests.services import FileServer, SeaweedServer
from tests.services.commands import maskmill
from tests.services.control_site import ControlSite, Killed
from tests.services.files_over_http import Reply
from tests.services.s3_proxy import s3_proxy
from tests.services.workers import Workers, kill, run_workers, settings_for

Pictures = list[bytes]


@pytest.fixture(scope="module")
def pictures(place: Path) -> Pictures:
    return [(place / f"pictures/many/picture {number}.jpg").read_bytes() for number in range(8)]


@pytest.fixture(scope="module")
def files(pictures: Pictures) -> dict[str, bytes]:
    """What a data set's archive may hold."""
    named = {f"set/{number:04d}.jpg": picture for number, picture in enumerate(pictures)}
    return {**named, **{f"set/{number:04d}.cls": b"7" for number in range(len(pictures))}, "__MACOSX/._x.jpg": b"x"}


@pytest.fixture
def workers(tmp_path: Path, redis_url: str) -> Iterator[Workers]:
    (tmp_path / "pictures").mkdir()
    with run_workers(settings_for(tmp_path, redis_url)) as running:
        yield running


def became(workers: Workers, job_id: str) -> dict[str, str]:
    """What became of each input: "succeeded", or the code of its failure."""
    outcomes = workers.outcomes(job_id)
    return {one.input_path: one.error.code if one.error else one.status for one in outcomes}


def test_zips_and_tars_of_a_bucket_are_read_by_range(
    s3_server: SeaweedServer, tmp_path: Path, redis_url: str, files: dict[str, bytes], pictures: Pictures
) -> None:
    bucket = s3_server.make_bucket()
    spoiled = zip_of({"a.jpg": pictures[0], "b.jpg": pictures[1]}, 0)
    spoiled = spoiled.replace(pictures[1], pictures[1][:-2] + b"XX")
    large = zip_of({"large.bin": bytes(range(256)) * 40_000, "only.jpg": pictures[0]}, 0)
    for key, data in {
        "in/shard-000000.tar": tar_of(files),
        "in/set.zip": zip_of(files),
        "in/large.zip": large,
        "in/spoiled.zip": spoiled,
        "in/cut.zip": zip_of(files)[:5000],
        "in/set.zip/0.jpg": pictures[0],
        "in/plain.jpg": pictures[0],
    }.items():
        s3_server.client().put_object(Bucket=bucket, Key=key, Body=data)
    (tmp_path / "buckets.toml").write_text(f"[{bucket}]\n")
    with s3_proxy(s3_server.endpoint) as proxy:
        env = {**s3_server.env, "MASKMILL_BUCKETS": f"{tmp_path}/buckets.toml", "MASKMILL_S3_ENDPOINT": proxy.endpoint}
        with run_workers(settings_for(tmp_path, redis_url, **env)) as workers:
            job_id = workers.submit([S3Source(url=f"s3://{bucket}/in/**")])
            report = workers.wait(job_id)
            outcomes, names = became(workers, job_id), set(workers.artifacts(job_id))
    top = f"s3://{bucket}/in"
    fine = [f"{top}/{name}!/set/{number:04d}.jpg" for name in ("shard-000000.tar", "set.zip") for number in range(8)]
    fine += [f"{top}/large.zip!/only.jpg", f"{top}/spoiled.zip!/a.jpg", f"{top}/set.zip/0.jpg", f"{top}/plain.jpg"]
    bad = {f"{top}/spoiled.zip!/b.jpg": "member_broken", f"{top}/cut.zip": "archive_truncated"}
    assert outcomes == {**dict.fromkeys(fine, "succeeded"), **bad}
    assert {reason: alike.count for reason, alike in report.left_out.root.items()} == {
        Reason.OTHER: 17,
        Reason.LITTER: 2,
    }
    assert {"shard-000000.tar/set/0003_res.json", "set.zip/set/0003_res.jpg", "%2Fset.zip/0_res.json"} <= names
    whole = [path for method, path in proxy.requests if method == "GET" and path.startswith(f"/{bucket}/in/large.zip")]
    # Its first bytes, its end with the directory, and the picture, which lies in one block or two.
    assert 3 <= len(whole) <= 4


def test_an_archive_that_changed_since_it_was_looked_into_fails_by_item(
    s3_server: SeaweedServer, site: ControlSite, tmp_path: Path, files: dict[str, bytes]
) -> None:
    bucket = s3_server.make_bucket()
    s3_server.client().put_object(Bucket=bucket, Key="a.tar", Body=tar_of(files))
    (tmp_path / "buckets.toml").write_text(f"[{bucket}]\n")
    env = {**s3_server.env, "MASKMILL_BUCKETS": f"{tmp_path}/buckets.toml"}
    settings = settings_for(tmp_path, site.settings.redis_url, **env)
    fetcher = Fetcher(settings, site.storage, Egress(settings))
    job = Job(id="0123456789", created_at=0, sources=(S3Source(url=f"s3://{bucket}/a.tar"),), shard_size=1)
    item, *_ = Expander(settings, site.storage, fetcher).items(job)
    assert fetcher.fetch(item.location) == files["set/0000.jpg"]
    s3_server.client().put_object(Bucket=bucket, Key="a.tar", Body=tar_of({"b.jpg": b"b"}))
    with pytest.raises(Exception, match="changed since it was listed") as raised:
        Fetcher(settings, site.storage, Egress(settings)).fetch(item.location)
    assert getattr(raised.value, "code", "") == "changed"


def test_archives_of_a_servers_folder(workers: Workers, tmp_path: Path, files: dict[str, bytes]) -> None:
    folder = tmp_path / "pictures"
    (folder / "a.jpg").write_bytes(files["set/0000.jpg"])
    (folder / "b.tgz").write_bytes(gz_of(files))
    (folder / "c.tar").write_bytes(tar_of({"x.jpg": files["set/0001.jpg"], "words.jpg": b"words"}))
    (folder / "d.zip").write_bytes(b"no zip")
    data = zip_of({"secret.jpg": files["set/0001.jpg"], "x.jpg": files["set/0001.jpg"]})
    (folder / "e.zip").write_bytes(patched(data, in_directory(data, 0) + 8, "<H", 1))
    job_id = workers.submit([PathSource(path=str(folder))])
    report = workers.wait(job_id)
    packed = {f"{folder}/b.tgz!/set/{number:04d}.jpg": "succeeded" for number in range(8)}
    assert became(workers, job_id) == {
        f"{folder}/a.jpg": "succeeded",
        **packed,
        f"{folder}/c.tar!/x.jpg": "succeeded",
        f"{folder}/c.tar!/words.jpg": "unsupported_format",
        f"{folder}/d.zip": "archive_truncated",
        f"{folder}/e.zip!/secret.jpg": "encrypted",
        f"{folder}/e.zip!/x.jpg": "succeeded",
    }
    assert (report.state, report.counts.total) == ("completed", 14)
    assert {"b.tgz/set/0007_res.json", "c.tar/x_res.jpg"} <= set(workers.artifacts(job_id))


def test_more_archives_than_are_looked_into_together(workers: Workers, tmp_path: Path, pictures: Pictures) -> None:
    folder = tmp_path / "pictures"
    count = 2 * CHUNK_ARCHIVES
    for number in range(count):
        (folder / f"{number}.zip").write_bytes(zip_of({"a.jpg": pictures[0]}))
    job_id = workers.submit([PathSource(path=str(folder))])
    report = workers.wait(job_id)
    assert (report.counts.total, report.counts.succeeded) == (count, count)
    assert list(became(workers, job_id)) == [f"{folder}/{number}.zip!/a.jpg" for number in range(count)]
    chunks = [workers.files(job_id).chunk(number) for number in range(3)]
    assert [len(chunk.entries) if chunk else 0 for chunk in chunks] == [CHUNK_ARCHIVES, CHUNK_ARCHIVES, 0]


def test_predict_takes_archives_as_well(tmp_path: Path, pictures: Pictures) -> None:
    for name, make in MAKERS.items():
        (tmp_path / name).write_bytes(make({"in/x.jpg": pictures[0], "notes.txt": b"x"}))
    model = write_package(tmp_path / "model", head_of(((8, 8, 40, 40), 1, 0.9)))
    given = [tmp_path / name for name in MAKERS]
    done = maskmill("predict", *given, "--model", model, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    assert "a.tar: no image and no PDF: 1 (a.tar!/notes.txt)" in done.stderr
    predicted = [json.loads(line)["input_path"] for line in done.stdout.splitlines()]
    assert predicted == [f"{path}!/in/x.jpg" for path in given]


def test_an_uploaded_archive_is_told_by_its_content(
    web: FlaskClient, services: Services, pictures: Pictures, files: dict[str, bytes]
) -> None:
    office = zip_of({"[Content_Types].xml": b"x", "word/media/a.jpg": pictures[0]})
    sent = {"set.zip": zip_of(files), "shard": tar_of(files), "set.tgz": gz_of(files), "a.jpg": pictures[0]}
    form = {"files": [(io.BytesIO(data), name) for name, data in {**sent, "a.docx": office}.items()]}
    answer = web.post("/v1/jobs", data=form)
    assert answer.status_code == 202, answer.text
    job = JobFiles(services.storage, answer.json["id"]).job()
    assert job
    forms = [source.form for source in job.sources if isinstance(source, UploadSource)]
    assert forms == ["archive", "archive", "archive", "picture", "picture"]


def test_an_uploaded_archive_may_be_larger_than_an_input(services: Services) -> None:
    most = 100_000
    settings = services.settings.model_copy(update={"max_input_bytes": most})
    web = create_app(settings, Services.open(settings)).test_client()
    large = zip_of({"a.bin": bytes(most + 1000)}, 0)
    assert web.post("/v1/jobs", data={"files": [(io.BytesIO(large), "a.zip")]}).status_code == 202
    other = web.post("/v1/jobs", data={"files": [(io.BytesIO(large[1:]), "a.bin")]})
    assert (other.status_code, other.json["detail"]) == (413, f"a file may have {most} bytes at most")


def test_an_archive_called_as_a_folder_is_refused(web: FlaskClient, pictures: Pictures) -> None:
    archive, inside = (zip_of({"a.jpg": pictures[0]}), "x.zip"), (pictures[0], "X.zip/a.jpg")
    for order in ([archive, inside], [inside, archive]):
        answer = web.post("/v1/jobs", data={"files": [(io.BytesIO(data), name) for data, name in order]})
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
        assert "'x.zip' is sent as an archive and as a folder" in answer.text


def test_an_upload_of_an_archive_runs(workers: Workers, files: dict[str, bytes]) -> None:
    key = keys.inputs("0123456789", "set.zip")
    workers.storage.put(key, zip_of(files))
    job_id = workers.submit([UploadSource(name="set.zip", key=key, form="archive")])
    workers.wait(job_id)
    assert became(workers, job_id) == {f"set.zip!/set/{number:04d}.jpg": "succeeded" for number in range(8)}


def slow_archive(data: bytes, between: Callable[[int], None]) -> Callable[[Message], Reply]:
    """A route that sends half of the bytes, calls `between` with the number of the request, and sends the rest."""
    asked: list[float] = []

    def answer(_asked: Message) -> Reply:
        asked.append(time.monotonic())
        number = len(asked)

        def pieces() -> Iterator[bytes]:
            yield data[: len(data) // 2]
            between(number)
            yield data[len(data) // 2 :]

        return Reply(200, {"Content-Length": str(len(data))}, pieces)

    return answer


def test_a_worker_that_is_killed_while_it_looks_into_an_archive_costs_nothing(
    workers: Workers, file_server: FileServer, files: dict[str, bytes]
) -> None:
    killed: list[int] = []

    def kill_once(request: int) -> None:
        # The first request is for the first bytes alone, the second for all.
        if request == 2:
            killed.extend(workers.processes("celery_worker", "device"))
            for pid in killed:
                kill(pid)

    padded = {**files, "noise.bin": bytes(range(256)) * 8000}
    file_server.routes["/set.zip"] = slow_archive(zip_of(padded, 0), kill_once)
    job_id = workers.submit([UrlSource(url=file_server.url("set.zip"))])
    report = workers.wait(job_id)
    assert killed
    assert (report.state, report.counts.succeeded, report.counts.total) == ("completed", 8, 8)
    url = file_server.url("set.zip")
    assert set(became(workers, job_id)) == {f"{url}!/set/{number:04d}.jpg" for number in range(8)}


def test_an_archive_that_kills_who_looks_into_it_fails_alone(workers: Workers, files: dict[str, bytes]) -> None:
    with serve_poison(zip_of(files)) as url:
        job_id = workers.submit([UrlSource(url=f"{url}/{name}.zip") for name in ("a", "poison", "b")])
        workers.wait(job_id)
    outcomes = became(workers, job_id)
    assert outcomes.pop(f"{url}/poison.zip") == "worker_crashed"
    assert list(outcomes.values()) == ["succeeded"] * 16


def looker(site: ControlSite, settings: Settings) -> ChunkExpander:
    fetcher = Fetcher(settings, site.storage, Egress(settings))
    return ChunkExpander(site.ledger, Expander(settings, site.storage, fetcher), Progress())


@pytest.mark.parametrize("killed_at", [0, 1, 2])
def test_planning_goes_on_in_the_middle_of_an_archive(site: ControlSite, tmp_path: Path, killed_at: int) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    count = 2 * SHARDS_A_PAGE + 10
    (folder / "a.jpg").touch()
    (folder / "b.tar").write_bytes(tar_of({f"{number}.jpg": b"" for number in range(count)} | {"notes.txt": b""}))
    (folder / "c.jpg").touch()
    job_id = site.submit([PathSource(path=str(folder))])
    site.runner().run()
    head = site.files(job_id).head()
    assert head
    held = Held(ShardLease(job_id, 0, 1, 0, expands=True), head)
    settings = site.settings.model_copy(update={"local_roots": (folder,)})
    assert looker(site, settings).expand(held, site.files(job_id))
    site.storage.kill_once("put", keys.page(job_id, killed_at))
    site.make_due()
    with pytest.raises(Killed):
        site.runner().run()
    site.make_due()
    site.runner().run()
    planned = [site.files(job_id).page(number) for number in range(site.files(job_id).page_count())]
    items = [item for page in planned if page for item in page.items]
    inside = [f"{folder}/b.tar!/{number}.jpg" for number in range(count)]
    assert [item.input_path for item in items] == [f"{folder}/a.jpg", *inside, f"{folder}/c.jpg"]
    assert [item.number for item in items] == list(range(count + 2))
    assert site.status(job_id).left_out.root[Reason.OTHER].count == 1
