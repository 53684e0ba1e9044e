"""A job's items as a table on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 110


def show_items(items: Iterable[dict[str, Any]]) -> None:
    """Print name, source, outcome, instances and reason of each item."""
    table = Table(show_edge=False, pad_edge=False)
    for title in ("item", "source", "outcome", "instances", "reason"):
        table.add_column(title, justify="right" if title == "instances" else "left", overflow="fold")
    for item in items:
        style = "" if item["status"] == "succeeded" else "red"
        table.add_row(*_cells(item), style=style)
    console = Console()
    console.width = max(console.width, WIDTH) if not console.is_terminal else console.width
    console.print(table)


def _cells(item: dict[str, Any]) -> tuple[str, str, str, str, str]:
    path, page = item["input_path"], item["page_index"]
    name = PurePath(path).name + (f", page {page + 1}" if page is not None else "")
    instances = "" if item["instances"] is None else str(item["instances"])
    return name, _source(path), item["status"], instances, (item["error"] or {}).get("reason", "")


def _source(path: str) -> str:
    if path.startswith(("http://", "https://")):
        return "URL"
    return "server folder" if path.startswith("/") else "upload"
