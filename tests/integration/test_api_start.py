"""The API as a process: how it starts, and what a killed one leaves."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import requests

from maskmill.shared.settings import Settings
from tests.services.api_server import run_api
from tests.services.commands import CLEAN, MASKMILL

CANNOT_START, STARTS = 78, 2
HALF_AN_UPLOAD = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b'Content-Length: 100000\r\n\r\n--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\nhalf'
)


def test_a_killed_api_starts_again_at_once_though_a_request_was_on_its_way(
    api_settings: Settings, tmp_path: Path
) -> None:
    with run_api(api_settings, tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as upload:
            upload.sendall(HALF_AN_UPLOAD)
            requests.get(f"{server.url}/health/live", timeout=30)
            server.process.kill()
            server.process.start()
            # Ends with an error once the process has.
            server.process.wait_until(lambda: (tmp_path / "api.log").read_text().count("Listening at") == STARTS)
            assert requests.get(f"{server.url}/health/live", timeout=30).ok


def test_a_taken_port_is_a_line_and_78() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = CLEAN | {"MASKMILL_API_PORT": str(port)}
        refused = subprocess.run([*MASKMILL, "api"], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert refused.returncode == CANNOT_START
    assert refused.stderr.count("\n") == 1
    assert f"port {port} cannot be used: Address already in use; name another with MASKMILL_API_PORT" in refused.stderr
