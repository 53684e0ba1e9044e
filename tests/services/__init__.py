"""Real services for tests and benchmarks, each a context manager: a Redis, an S3-compatible server, a file server."""

from tests.services.files_over_http import FileServer, serve_files
from tests.services.redis_server import RedisServer, run_redis
from tests.services.seaweed_server import SeaweedServer, run_seaweed

__all__ = ["FileServer", "RedisServer", "SeaweedServer", "run_redis", "run_seaweed", "serve_files"]
