"""What lies behind a job's sources, and in which order."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from maskmill.shared.folder_inputs import LeftOut, Reason
from maskmill.shared.jobs.records import Entry, Job, ListingCursor, new_job_id
from maskmill.shared.jobs.sources import PathSource, Source, UploadSource, UrlSource
from maskmill.shared.settings import Settings
from maskmill.worker.sources.artifact_names import artifact_name
from maskmill.worker.sources.listing import entries

JPEG = b"\xff\xd8\xff\xe0" + bytes(60)


def job(*sources: Source) -> Job:
    return Job(id=new_job_id(), created_at=0.0, sources=sources, shard_size=1)


def names(found: list[Entry]) -> list[str]:
    return [artifact_name(entry.name) for entry in found]


def told_by(found: Iterable[Entry]) -> LeftOut:
    """What was left out, by all of these entries."""
    told = LeftOut()
    for entry in found:
        told.merge(entry.left_out or LeftOut())
    return told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "set"
    for name in ("page 10.jpg", "page 2.jpg", "deep/1/x.png", "deep/10/x.png", "deep/9/x.png", "a.jpg", "a.png"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)
    (top / "notes.txt").write_text("not an input")
    (top / "looks-like.dat").write_bytes(JPEG)
    (top / "claims.jpg").write_text("text")
    (top / ".hidden.jpg").write_bytes(JPEG)
    return top


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(local_roots=(tmp_path,))


def test_a_folder_is_listed_in_natural_order_with_all_below_it(folder: Path, settings: Settings) -> None:
    found = list(entries(job(PathSource(path=str(folder))), settings))
    deep = ["deep/1/x.png", "deep/9/x.png", "deep/10/x.png"]
    assert names(found) == ["a", "a.png", "claims", *deep, "looks-like.dat", "page 2", "page 10"]


def test_content_or_a_claim_makes_a_file_of_a_folder_an_input(folder: Path, settings: Settings) -> None:
    paths = {Path(entry.input_path).name for entry in entries(job(PathSource(path=str(folder))), settings)}
    assert {"looks-like.dat", "claims.jpg"} <= paths
    assert not {"notes.txt", ".hidden.jpg"} & paths


def test_a_listing_goes_on_after_any_position(folder: Path, settings: Settings) -> None:
    everything = job(PathSource(path=str(folder)))
    whole = list(entries(everything, settings))
    for number, entry in enumerate(whole):
        after = ListingCursor(source=0, position=entry.position)
        assert names(list(entries(everything, settings, after))) == names(whole[number + 1 :])


def test_what_is_left_out_is_told_once_wherever_the_listing_goes_on(folder: Path, settings: Settings) -> None:
    (folder / "deep/.hidden").write_text("")
    for name in ("deep/9/notes.txt", "empty/notes.txt", "z/last.txt", "z/z/last.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no picture")
    everything = job(PathSource(path=str(folder)), PathSource(path=str(folder / "deep")))
    whole = list(entries(everything, settings))
    told = told_by(whole)
    assert {reason: alike.count for reason, alike in told.root.items()} == {Reason.OTHER: 6, Reason.HIDDEN: 3}
    assert told.root[Reason.HIDDEN].names == ["set/.hidden.jpg", "set/deep/.hidden", "deep/.hidden"]
    for number, entry in enumerate(whole):
        behind = entries(everything, settings, ListingCursor(source=entry.source, position=entry.position))
        assert told_by([*whole[: number + 1], *behind]) == told


def test_a_listing_goes_on_in_a_large_folder_of_any_names(tmp_path: Path, settings: Settings) -> None:
    dice = random.Random(5)
    for _ in range(60):
        parts = ["".join(dice.choice("a1b02.") for _ in range(dice.randint(1, 4))).strip(".") or "x" for _ in "ab"]
        path = tmp_path / "many" / Path(*parts[: dice.randint(1, 2)])
        if not path.exists() and not path.parent.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(JPEG)
    everything = job(PathSource(path=str(tmp_path / "many")))
    whole = list(entries(everything, settings))
    assert len(whole) > 20
    for number, entry in enumerate(whole):
        after = ListingCursor(source=0, position=entry.position)
        assert names(list(entries(everything, settings, after))) == names(whole[number + 1 :])


def test_a_file_that_goes_while_it_is_listed_renames_no_other(folder: Path, settings: Settings) -> None:
    for name in ("a.bmp", "a_0.png", "a.pdf"):
        (folder / name).write_bytes(JPEG)
    everything = job(PathSource(path=str(folder)))
    before = {entry.input_path: artifact_name(entry.name) for entry in entries(everything, settings)}
    for name in ("a.bmp", "a_0.png", "a.jpg"):
        (folder / name).unlink()
        # What was listed before it went is behind the planner; it goes on with what is left.
        after = list(entries(everything, settings, ListingCursor(source=0, position=name)))
        assert {entry.input_path: artifact_name(entry.name) for entry in after}.items() < before.items()
    assert before[str(folder / "a.png")] == "a.png"


def test_several_sources_keep_their_order_and_never_share_a_name(folder: Path, settings: Settings) -> None:
    sources = [
        UploadSource(name="a.jpg", key="k"),
        PathSource(path=str(folder)),
        UrlSource(url="https://example.com/b/a.jpg?x=1"),
        PathSource(path=str(folder / "deep")),
    ]
    found = names(list(entries(job(*sources), settings)))
    assert len(set(found)) == len(found)
    assert (found[0], found[1], found[-4], found[-1]) == ("a", "set/a", "a-2", "deep/10/x.png")


def test_a_path_outside_the_roots_is_an_entry_with_its_reason(settings: Settings) -> None:
    (found,) = entries(job(PathSource(path="/etc")), settings)
    assert found.failure
    assert found.failure.code == "path_refused"


def test_a_link_does_not_lead_out_of_the_roots(folder: Path, settings: Settings) -> None:
    (folder / "out.jpg").symlink_to("/etc/passwd")
    (found,) = entries(job(PathSource(path=str(folder / "out.jpg"))), settings)
    assert found.failure
    assert found.failure.code == "path_refused"


def test_an_empty_folder_is_one_entry_that_says_so(tmp_path: Path, settings: Settings) -> None:
    (found,) = entries(job(PathSource(path=str(tmp_path))), settings)
    assert found.failure
    assert "holds no image and no PDF" in found.failure.reason
