"""Run one Swift server of a KIND with a swift.conf of one's own: `swift_main KIND SWIFT_CONF SERVER_CONF`."""

from __future__ import annotations

import importlib
import sys

from swift.common import utils

MODULES = {"proxy": "swift.proxy.server", "account": "swift.account.server"}
MODULES |= {"container": "swift.container.server", "object": "swift.obj.server"}


def main(kind: str, swift_conf: str, server_conf: str) -> int:
    """Swift looks for swift.conf in /etc only; the path is set before anything reads it."""
    utils.SWIFT_CONF_FILE = swift_conf
    sys.argv = [f"swift-{kind}-server", server_conf, "-v"]
    return int(importlib.import_module(MODULES[kind]).main() or 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
