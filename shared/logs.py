"""Log lines to standard error: time, level, who, what."""

from __future__ import annotations

import logging


def set_up_logging(level: str, who: str) -> None:
    """Log from `level` on; `who` stands on every line, since many processes share one terminal."""
    logging.basicConfig(level=level, format=f"%(asctime)s %(levelname)s [{who}] %(message)s", force=True)
    for noisy in ("celery", "kombu", "botocore", "boto3", "urllib3", "PIL"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
