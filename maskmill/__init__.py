"""Maskmill: images, PDFs, folders and URLs into instance masks, in bulk. Nothing is imported before it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskmill.client.client import Client
    from maskmill.worker.predict.create_pipeline import create_pipeline

__all__ = ["Client", "create_pipeline"]

_PUBLIC = {"Client": "maskmill.client.client", "create_pipeline": "maskmill.worker.predict.create_pipeline"}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'maskmill' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
