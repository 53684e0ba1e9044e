"""What logs gain is shown, whatever becomes of the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskmill.deploy.local.follow_logs import Follower


def test_only_what_is_new_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, follower = tmp_path / "a.log", Follower(tmp_path)
    log.write_text("first\n")
    follower.show()
    with log.open("a") as file:
        file.write("second\n")
    follower.show()
    assert capsys.readouterr().err == "first\nsecond\n"


def test_a_log_that_is_begun_anew_is_shown_from_its_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, follower = tmp_path / "a.log", Follower(tmp_path)
    log.write_text("a long line\n")
    follower.show()
    log.write_text("anew\n")
    follower.show()
    assert capsys.readouterr().err == "a long line\nanew\n"


def test_a_log_that_cannot_be_read_keeps_no_other_from_being_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.log").symlink_to(tmp_path / "gone")
    (tmp_path / "b.log").write_text("shown\n")
    Follower(tmp_path).show()
    assert capsys.readouterr().err == "shown\n"
