"""Real services for tests and benchmarks, each a context manager: a Redis, an S3-compatible server, a file server."""

from tests.services.files_over_http import FileServer, serve_files
from tests.services.redis_server import RedisServer, run_redis
from tests.services.swift_server import SwiftServer, run_swift

__all__ = ["FileServer", "RedisServer", "SwiftServer", "run_redis", "run_swift", "serve_files"]
