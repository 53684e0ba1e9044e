"""A real S3-compatible server on loopback: OpenStack Swift with s3api, as four small processes."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from swift.common.ring import RingBuilder

from tests.services.process import Process, accepts, free_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).resolve().parents[2]
ACCESS_KEY, SECRET_KEY = "test:tester", "testing"
KINDS = ("account", "container", "object", "proxy")
PIPELINE = "catch_errors proxy-logging listing_formats bulk s3api tempauth slo dlo versioned_writes proxy-server"
FILTERS = [name for name in PIPELINE.split() if name != "proxy-server"]
OPTIONS = {
    "tempauth": f"user_{ACCESS_KEY.replace(':', '_')} = {SECRET_KEY} .admin",
    "s3api": "location = us-east-1\nmin_segment_size = 1048576",
    "versioned_writes": "allow_versioned_writes = true",
}


@dataclass(frozen=True)
class SwiftServer:
    """A running server; `kill` and `start` give tests a storage outage with the data kept."""

    endpoint: str
    folder: Path
    processes: dict[str, Process]
    ports: dict[str, int]

    @property
    def env(self) -> dict[str, str]:
        """The Maskmill settings that reach this server, without the storage URL."""
        return {
            "MASKMILL_S3_ENDPOINT": self.endpoint,
            "MASKMILL_S3_ACCESS_KEY": ACCESS_KEY,
            "MASKMILL_S3_SECRET_KEY": SECRET_KEY,
        }

    def make_bucket(self, name: str | None = None) -> str:
        """Create a bucket, with a fresh name unless one is given, and return its name."""
        bucket = name or f"b-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=bucket)
        return bucket

    def client(self) -> S3Client:
        """A boto3 client of this server."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def start(self, *kinds: str) -> None:
        """Start the processes of these kinds (default: all) and wait until each listens."""
        for kind in kinds or KINDS:
            self.processes[kind].start()
        for kind in kinds or KINDS:
            self.processes[kind].wait_until(functools.partial(accepts, self.ports[kind]))

    def kill(self, *kinds: str) -> None:
        """SIGKILL the processes of these kinds (default: all); what they stored stays."""
        for kind in kinds or KINDS:
            self.processes[kind].kill()


@contextlib.contextmanager
def run_swift(folder: Path | None = None) -> Iterator[SwiftServer]:
    """Swift with its data and logs in `folder` (default: a temporary one), stopped at the end."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swift-", ignore_cleanup_errors=True)))
        ports = {kind: free_port() for kind in KINDS}
        _write_configuration(folder, ports)
        _write_rings(folder, ports)
        processes = {kind: _process(folder, kind) for kind in KINDS}
        server = SwiftServer(f"http://127.0.0.1:{ports['proxy']}", folder, processes, ports)
        for process in processes.values():
            stack.callback(process.kill)
        server.start()
        yield server


def _process(folder: Path, kind: str) -> Process:
    command = [sys.executable, "-W", "ignore", "-m", "tests.services.swift_main"]
    command += [kind, str(folder / "swift.conf"), str(folder / f"{kind}.conf")]
    return Process(command, folder / f"{kind}.log", {**os.environ, "PYTHONPATH": str(ROOT)})


def _write_rings(folder: Path, ports: dict[str, int]) -> None:
    for kind in ("account", "container", "object"):
        builder = RingBuilder(part_power=0, replicas=1, min_part_hours=0)
        place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": ports[kind], "device": "disk", "weight": 1}
        builder.add_dev({**place, "replication_ip": "127.0.0.1", "replication_port": ports[kind]})
        builder.rebalance()
        builder.get_ring().save(str(folder / f"{kind}.ring.gz"))


def _write_configuration(folder: Path, ports: dict[str, int]) -> None:
    (folder / "disk").mkdir()
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = maskmill\n[storage-policy:0]\nname = only\ndefault = yes\n"
    )
    for kind in KINDS:
        (folder / f"{kind}.conf").write_text(_server_conf(kind, folder, ports[kind]))


def _server_conf(kind: str, folder: Path, port: int) -> str:
    pipeline, app = (PIPELINE, "proxy-server") if kind == "proxy" else (f"{kind}-server", f"{kind}-server")
    lines = [
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\nuser = {getpass.getuser()}",
        f"swift_dir = {folder}\ndevices = {folder}\nmount_check = false\nlog_level = WARNING\ndisable_fallocate = true",
        f"[pipeline:main]\npipeline = {pipeline}",
        f"[app:{app}]\nuse = egg:swift#{kind}\naccount_autocreate = true\nallow_account_management = true",
    ]
    if kind == "proxy":
        lines += [
            f"[filter:{name}]\nuse = egg:swift#{name.replace('-', '_')}\n{OPTIONS.get(name, '')}" for name in FILTERS
        ]
    return "\n".join(lines) + "\n"


def _filter_conf(name: str) -> str:
    return f"[filter:{name}]\nuse = egg:swift#{name.replace('-', '_')}\n{OPTIONS.get(name, '')}"
