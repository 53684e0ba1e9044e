"""Which files of a folder are sent, read by path, and predicted: one rule, and what it leaves out is named."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from PIL import Image as Pillow

from maskmill.api.services import Services
from maskmill.client.client import Client, ClientError
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Job, ListingCursor, new_job_id
from maskmill.shared.jobs.sources import PathSource, UploadSource
from maskmill.shared.settings import Settings
from maskmill.worker.sources.listing import entries
from tests.onnx_models import head_of, write_package
from tests.services.api_server import ApiServer
from tests.services.commands import maskmill

SOME_FAILED, WRONG = 1, 2
INPUTS = {"picture", "b.jpg", "c.apng", "d.avifs", "claims.jpg", "deep/e.png"}
LEFT_OUT = {"notes.txt", ".hidden.jpg", ".secret", "Thumbs.db", "__MACOSX", "._b.jpg", "linked", "gone", "pipe"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures under names of all kinds, and what lies about beside them."""
    top = tmp_path / "mixed"
    picture = Pillow.new("RGB", (64, 64), "white")
    for name, form in (
        ("picture", "JPEG"),
        ("b.jpg", "JPEG"),
        ("c.apng", "PNG"),
        ("d.avifs", "AVIF"),
        ("deep/e.png", "PNG"),
        (".hidden.jpg", "JPEG"),
        (".secret/x.jpg", "JPEG"),
        ("Thumbs.db", "JPEG"),
        ("__MACOSX/b.jpg", "JPEG"),
        ("._b.jpg", "JPEG"),
    ):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(top / name, form)
    (top / "notes.txt").write_text("no picture")
    (top / "claims.jpg").write_text("no picture either")
    (top / "linked").symlink_to(top / "deep")
    (top / "gone").symlink_to(top / "nowhere")
    os.mkfifo(top / "pipe")
    return top


def names_sent(services: Services, job_id: str) -> list[str]:
    job = Job.model_validate_json(services.storage.get(keys.job(job_id)))
    return [source.name for source in job.sources if isinstance(source, UploadSource)]


def dig(folder: Path) -> None:
    """A sub-folder whose path is too long to be opened, whoever asks."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=descriptor)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


def test_an_upload_sends_what_is_a_picture_by_content_or_by_claim_and_names_the_rest(
    api_server: ApiServer, services: Services, folder: Path
) -> None:
    done = maskmill("submit", folder, "--api", api_server.url)
    assert done.returncode == 0, done.stderr
    assert set(names_sent(services, done.stdout.strip())) == INPUTS
    for said in (
        f"Left out of {folder}: ",
        "no image and no PDF: 1 (notes.txt)",
        "hidden: 2 (",
        "of the operating system: 3 (",
        "a link to a folder: 1 (linked)",
        "no regular file: 1 (pipe)",
        "cannot be read: 1 (gone)",
    ):
        assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_uploads_paths_and_predict_agree(
    api_server: ApiServer, services: Services, folder: Path, tmp_path: Path
) -> None:
    job = Job(id=new_job_id(), created_at=0.0, sources=(PathSource(path=str(folder)),), shard_size=1)
    listed = [entry.input_path for entry in entries(job, Settings(local_roots=(tmp_path,)))]
    sent = names_sent(services, Client(api_server.url).submit([folder]).id)
    model = write_package(tmp_path / "model", head_of(((8, 8, 40, 40), 1, 0.9)))
    done = maskmill("predict", folder, "--model", model, "--device", "cpu", "--json")
    predicted = [json.loads(line)["input_path"] for line in done.stdout.splitlines()]
    assert predicted == listed == [str(folder / name) for name in sent]
    assert done.returncode == SOME_FAILED
    assert f"Left out of {folder}: no image and no PDF: 1 (notes.txt); hidden: 2 (" in done.stderr


def test_a_python_program_has_what_is_left_out_in_its_log(
    api_server: ApiServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Client(api_server.url).submit([folder])
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "notes.txt" in record.getMessage()


def test_only_the_first_names_are_told(api_server: ApiServer, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text("text")
    (tmp_path / "a.jpg").write_bytes(b"a")
    done = maskmill("submit", tmp_path, "--api", api_server.url)
    assert "no image and no PDF: 40 (" in done.stderr
    assert done.stderr.count(".txt") == 3


def test_a_folder_without_a_picture_says_what_it_holds_instead(api_server: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    done = maskmill("submit", tmp_path, "--api", api_server.url)
    said = f"there is no image and no PDF in {tmp_path}; left out: no image and no PDF: 1 (notes.txt)"
    assert (done.returncode, done.stderr) == (WRONG, f"Error: {said}\n")


def test_a_sub_folder_that_cannot_be_read_is_named_and_the_rest_goes_on(
    api_server: ApiServer, services: Services, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(b"a")
    dig(tmp_path / "in")
    done = maskmill("submit", tmp_path / "in", "--api", api_server.url)
    assert done.returncode == 0, done.stderr
    assert names_sent(services, done.stdout.strip()) == ["a.jpg"]
    assert "cannot be read: 1 (xxx" in done.stderr
    job = Job(id=new_job_id(), created_at=0.0, sources=(PathSource(path=str(tmp_path / "in")),), shard_size=1)
    settings = Settings(local_roots=(tmp_path,))
    good, bad = entries(job, settings)
    assert good.failure is None
    assert bad.failure
    assert "File name too long" in bad.failure.reason
    behind = [
        [entry.position for entry in entries(job, settings, ListingCursor(position=found.position))]
        for found in (good, bad)
    ]
    assert behind == [[bad.position], []]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_no_permission_leads_to_is_named(api_server: ApiServer, services: Services, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"a")
    (tmp_path / "b.jpg").chmod(0)
    try:
        done = maskmill("submit", tmp_path, "--api", api_server.url)
        assert names_sent(services, done.stdout.strip()) == ["a.jpg"]
        assert "cannot be read: 2 (" in done.stderr
        alone = maskmill("submit", tmp_path / "b.jpg", "--api", api_server.url)
        assert (alone.returncode, "permission denied" in alone.stderr) == (WRONG, True)
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_a_broken_link_that_claims_to_be_a_picture_is_named(
    api_server: ApiServer, services: Services, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(b"a")
    (tmp_path / "in/gone.jpg").symlink_to(tmp_path / "nowhere")
    done = maskmill("submit", tmp_path / "in", "--api", api_server.url)
    assert (done.returncode, names_sent(services, done.stdout.strip())) == (0, ["a.jpg"])
    assert "cannot be read: 1 (gone.jpg)" in done.stderr


def test_a_file_that_shrinks_while_it_is_sent_is_named(api_server: ApiServer, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(bytes(2_000_000))
    client = Client(api_server.url)
    with pytest.raises(ClientError, match=r"a\.jpg became shorter while it was sent"):
        client.submit([path], progress=lambda _sent, _total: path.write_bytes(b""))


def test_several_folders_keep_their_names(api_server: ApiServer, services: Services, tmp_path: Path) -> None:
    for name in ("cats/1.jpg", "dogs/1.jpg", "dogs/deep/2.jpg", "train/images/1.jpg", "val/images/1.jpg", "3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"a")

    def sent(*words: str) -> list[str]:
        done = maskmill("submit", *words, "--api", api_server.url, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return names_sent(services, done.stdout.strip())

    assert sent("cats", "dogs") == ["cats/1.jpg", "dogs/1.jpg", "dogs/deep/2.jpg"]
    assert sent("dogs/") == ["1.jpg", "deep/2.jpg"]
    assert sent("cats/1.jpg") == ["1.jpg"]
    assert sent("./cats", "3.jpg") == ["cats/1.jpg", "3.jpg"]
    assert sent("cats", "https://example.org/a.jpg") == ["cats/1.jpg"]
    assert sent("train/images", "val/images") == ["train/images/1.jpg", "val/images/1.jpg"]
    assert sent("cats/1.jpg", str(tmp_path / "dogs/1.jpg"), "3.jpg") == ["cats/1.jpg", "dogs/1.jpg", "3.jpg"]
