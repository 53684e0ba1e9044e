"""Everything that can be set, read once from a mapping into one frozen value."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from maskmill.shared.errors import InvalidRequest

PREFIX = "MASKMILL_"


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_split)]


class Settings(BaseModel):
    """One process's settings; each field is the environment variable MASKMILL_<FIELD>."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Services
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", description="Redis that holds ledger and queues.")
    redis_prefix: str = Field(default="maskmill", description="First part of every Redis key.")
    storage_url: str = Field(
        default=f"file://{Path.home()}/.maskmill/storage", description="s3://bucket/prefix or file:///absolute/folder."
    )
    s3_endpoint: str | None = Field(default=None, description="URL of an S3-compatible server; none means AWS.")
    s3_region: str = Field(default="us-east-1", description="Region that requests are signed for.")
    s3_access_key: str | None = Field(default=None, description="Access key; none leaves it to boto3's own chain.")
    s3_public_endpoint: str | None = Field(
        default=None,
        description="URL by which clients reach that server: they get artifacts from there, by signed links.",
    )
    s3_secret_key: SecretStr | None = Field(default=None, description="Secret of the access key.")

    # API
    api_host: str = Field(default="127.0.0.1", description="Address the API listens on; loopback only.")
    api_port: int = Field(default=8080, ge=0, le=65535, description="Port the API listens on.")
    api_trusted_hosts: Names = Field(
        default=(), description="Names besides loopback's that requests may call the API by, comma-separated."
    )
    api_threads: int = Field(default=32, ge=2, description="Requests an API process serves at once.")
    max_body_bytes: int = Field(default=1 << 30, description="Largest request body of POST /v1/jobs.")
    max_sources: int = Field(default=10_000, description="Most sources one job may name.")
    interactive_timeout: float = Field(default=60, gt=0, description="Seconds a waiting request waits for its reply.")
    interactive_queue: int = Field(default=64, ge=1, description="Most waiting requests a model; past it, 503.")

    # What may be read
    local_roots: Paths = Field(default=(), description="Folders whose files jobs may name, comma-separated.")
    buckets: Path | None = Field(
        default=None,
        description="TOML file of the S3 buckets that jobs may read or write; see docs/buckets.md.",
    )
    allow_networks: Names = Field(
        default=(), description="Private networks (CIDR) that URLs may reach, comma-separated."
    )
    url_timeout: float = Field(
        default=30, gt=0, description="Seconds one URL may take, name look-up, TLS, redirects and body included."
    )
    max_input_bytes: int = Field(default=128 << 20, description="Largest single input, in bytes.")
    max_pixels: int = Field(default=128_000_000, description="Largest picture, in pixels.")
    max_pages: int = Field(default=10_000, description="Most pages of one PDF or TIFF.")
    max_members: int = Field(default=100_000, ge=1, description="Most files and folders of one archive.")
    max_archive_bytes: int = Field(
        default=16 << 30, description="Most bytes of one archive, and of all that it holds, unpacked."
    )
    max_items: int = Field(default=10_000_000, description="Most items of one job.")

    # Queue
    shard_size: int = Field(
        default=32, ge=1, description="Most items in a shard; a job that is small for its workers has small ones."
    )
    window_shards: int = Field(default=64, ge=1, description="Shards the planner runs ahead of the workers.")
    lease_seconds: float = Field(default=15, gt=0, description="A claim not renewed for so long is free again.")
    start_seconds: float = Field(
        default=600, gt=0, description="A child that has not begun within so long, its models loaded, is restarted."
    )
    stall_seconds: float = Field(default=120, gt=0, description="A child without progress for so long is restarted.")
    sweep_seconds: float = Field(default=2, gt=0, description="Pause between two rounds of the sweeper.")
    keep_seconds: float = Field(default=7 * 86400, gt=0, description="Seconds the ledger keeps a finished job.")
    keep_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Days a job is kept once it is over, where it does not say itself; 0: for ever.",
    )
    keep_uploads_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Days the uploads of a job are kept once it is over; 0: as long as the job.",
    )

    # Worker
    models: Names = Field(default=("shapes",), description="Models a worker loads, by name or path, comma-separated.")
    models_dir: Path = Field(default=Path.home() / ".maskmill/models", description="Folder of model directories.")
    catalogue: Path | None = Field(default=None, description="File of further models that `models pull` knows.")
    batch_size: int = Field(default=8, ge=1, description="Most pictures in one run of a model.")
    batch_bytes: int = Field(default=64 << 20, description="Most bytes of input tensors in one run.")
    cpu_threads: int = Field(default=os.cpu_count() or 1, ge=1, description="Threads of one model session on the CPU.")
    fetch_threads: int = Field(default=8, ge=1, description="Inputs fetched at once by a child.")
    decode_threads: int = Field(default=2, ge=1, description="Inputs decoded at once by a child.")
    finish_threads: int = Field(default=2, ge=1, description="Results finished, drawn and encoded at once.")
    store_threads: int = Field(default=8, ge=1, description="Artifacts stored at once by a child.")
    bytes_in_flight: int = Field(default=1 << 30, description="Most encoded bytes a child holds at once.")
    pixels_in_flight: int = Field(
        default=256_000_000, description="Most pixels a child holds at once, decoders' copies included."
    )
    outputs_in_flight: int = Field(
        default=640 << 20,
        ge=1,
        description="Most bytes of model outputs a child holds at once, runs under way included.",
    )
    run_dir: Path = Field(
        default=Path.home() / ".maskmill/run", description="Folder of the children's progress stamps."
    )
    host_name: str = Field(default_factory=socket.gethostname, description="This machine's name in owners and logs.")
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @property
    def api_address(self) -> str:
        """Where the API listens as a URL writes it: host:port, an IPv6 address in brackets."""
        host = f"[{self.api_host}]" if ":" in self.api_host else self.api_host
        return f"{host}:{self.api_port}"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """The settings of `env`; an unknown MASKMILL_ variable or a bad value is an InvalidRequest naming it."""
        given = {key.removeprefix(PREFIX).lower(): value for key, value in env.items() if key.startswith(PREFIX)}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InvalidRequest("; ".join(_explain(problem) for problem in error.errors())) from None

    def to_env(self) -> dict[str, str]:
        """The environment from which a child process reads these same settings."""
        env: dict[str, str] = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            if value is not None:
                env[PREFIX + name.upper()] = _as_text(value)
        return env


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _explain(problem: Any) -> str:
    name = PREFIX + str(problem["loc"][0]).upper()
    if problem["type"] == "extra_forbidden":
        return f"{name} is not a setting; docs/settings.md lists them all"
    return f"{name}={problem['input']!r}: {problem['msg']}"
