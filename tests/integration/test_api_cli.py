"""The commands, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from maskmill.api.services import Services
from maskmill.client.cli import COMMANDS
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Counts, Failure, JobState, JobStatus
from tests.integration.conftest import finish_shard, plan_shards
from tests.services.api_server import ApiServer
from tests.services.commands import MASKMILL
from tests.services.process import free_port
from tests.services.workers import wait_until

URL = "https://example.org/a.jpg"
ENV = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"from maskmill.client.cli import {name}; {name}()", *arguments]


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(name, *arguments), capture_output=True, text=True, env=ENV, timeout=60, check=False)


@pytest.fixture
def job_id(api_server: ApiServer) -> str:
    """A job submitted by the command."""
    return run("submit", URL, "--api", api_server.url).stdout.strip()


def end(services: Services, job_id: str, state: JobState, failed: int = 0) -> None:
    """Leave the job as it is once the ledger has forgotten it."""
    plan_shards(services, job_id, [["a", "b"]])
    failure = Failure(stage="decode", code="unreadable", reason="broken picture")
    finish_shard(services, job_id, 0, dict.fromkeys(["a", "b"][:failed], failure))
    counts = Counts(total=2, succeeded=2 - failed, failed=failed)
    report = JobStatus(id=job_id, state=state, model="shapes", counts=counts, created_at=1.0)
    services.storage.put(keys.report(job_id), report.model_dump_json().encode())
    with Redis.from_url(services.settings.redis_url) as client:
        client.flushall()


def test_submit_prints_the_jobs_id(services: Services, job_id: str) -> None:
    assert services.ledger.status(job_id)


def test_options_reach_the_job(api_server: ApiServer, services: Services) -> None:
    flags = ["--threshold", "0.3", "--dpi", "200", "--pages", "1-3", "--mask-format", "polygon", "--priority", "2"]
    found = run("submit", URL, "--api", api_server.url, "--json", "--name", "mine", *flags)
    job = json.loads(services.storage.get(keys.job(json.loads(found.stdout)["id"])))
    assert (job["options"]["threshold"], job["options"]["pdf"]["dpi"], job["name"]) == (0.3, 200, "mine")
    assert (job["options"]["mask_format"], job["options"]["pdf"]["pages"]) == ("polygon", "1-3")


@pytest.mark.parametrize(("state", "failed", "code"), [("completed", 0, 0), ("completed", 1, 1), ("failed", 2, 3)])
def test_the_exit_code_tells_how_the_job_ended(
    api_server: ApiServer, services: Services, job_id: str, state: JobState, failed: int, code: int
) -> None:
    end(services, job_id, state, failed)
    found = run("watch", job_id, "--api", api_server.url)
    assert found.returncode == code
    assert found.stderr.count("broken picture") == failed
    assert json.loads(run("watch", job_id, "--api", api_server.url, "--json").stdout)["state"] == state


def test_watch_with_a_folder_fetches_the_results(
    api_server: ApiServer, services: Services, job_id: str, tmp_path: Path
) -> None:
    end(services, job_id, "completed")
    assert run("watch", job_id, "--api", api_server.url, "--out", f"{tmp_path}/out").returncode == 0
    assert (tmp_path / "out/a_res.json").read_text() == "json of a"
    again = run("fetch", job_id, "--api", api_server.url, "--out", f"{tmp_path}/out")
    assert again.returncode == 0
    assert "0 files downloaded" in again.stderr


def test_cancel_status_and_jobs_tell_where_it_stands(api_server: ApiServer, job_id: str) -> None:
    assert "queued" in run("status", job_id, "--api", api_server.url).stdout
    assert "cancelled" in run("cancel", job_id, "--api", api_server.url).stdout
    assert f"{job_id}: cancelled" in run("jobs", "--api", api_server.url).stdout
    assert run("watch", job_id, "--api", api_server.url).returncode == 3


def test_ctrl_c_says_that_the_job_goes_on(api_server: ApiServer, job_id: str) -> None:
    watching = subprocess.Popen(
        command("watch", job_id, "--api", api_server.url), stderr=subprocess.PIPE, text=True, env=ENV
    )
    # It has asked for the job once it holds a connection.
    wait_until(lambda: _has_socket(watching.pid), 60)
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert f"maskmill watch {job_id}" in said
    assert "Traceback" not in said


def _has_socket(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return any(str(link.readlink()).startswith("socket:") for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_a_wrong_request_is_exit_code_2_with_the_reason(api_server: ApiServer) -> None:
    found = run("submit", URL, "--api", api_server.url, "--model", "coco")
    assert found.returncode == 2
    assert found.stderr == "Error: no worker serves model 'coco'; served: shapes\n"


def test_an_error_stands_alone_without_a_table(api_server: ApiServer) -> None:
    for form in ([], ["--csv"]):
        ended = run("items", "nosuchjob", "--api", api_server.url, *form)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "there is no job" in ended.stderr


@pytest.mark.parametrize("url", ["foo", "ftp://host", "http://"])
def test_what_is_no_url_of_a_service_is_told_how_to_write_one(url: str) -> None:
    ended = run("jobs", "--api", url)
    assert ended.returncode == 2
    assert "write it as http://127.0.0.1:8080" in ended.stderr


def test_no_service_is_exit_code_4() -> None:
    found = run("jobs", "--api", f"http://127.0.0.1:{free_port()}")
    assert found.returncode == 4
    assert "is the service running?" in found.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_the_api_listens_on_this_machine_only(host: str) -> None:
    env = ENV | {"MASKMILL_API_HOST": host}
    found = subprocess.run([*MASKMILL, "api"], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert found.returncode == 2
    assert "loopback" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_help_tells_the_exit_codes(name: str) -> None:
    assert "Exit codes: 0 every item succeeded" in " ".join(run(name, "--help").stdout.split())
