"""Items on the terminal, one after the other as they come: a table for people, CSV and JSON lines for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, islice
from typing import Any, Literal

import click

Item = Mapping[str, Any]
Form = Literal["table", "csv", "json"]

FACTS = ("number", "input_path", "page_index", "status", "width", "height", "instances")
FAILURE = ("stage", "code", "reason")
ARTIFACTS = ("json", "image")
ROW = "{:>8}  {:<40}  {:>5}  {:<9}  {}"


def print_items(items: Iterable[Item], form: Form) -> None:
    """Print the items in that form."""
    printers: dict[Form, Callable[[Iterable[Item]], None]] = {
        "table": _print_table,
        "csv": _print_csv,
        "json": _print_json_lines,
    }
    asked = iter(items)
    # Asked for before the header is written: an error stands alone.
    first = list(islice(asked, 1))
    printers[form](chain(first, asked))


def failure_line(item: Item) -> str:
    """Which input failed, and why."""
    page = f" page {item['page_index'] + 1}" if item["page_index"] is not None else ""
    return f"{item['input_path']}{page}: {(item['error'] or {}).get('reason')}"


def _print_table(items: Iterable[Item]) -> None:
    click.echo(ROW.format("number", "input", "page", "outcome", "reason"))
    for item in items:
        page = "" if item["page_index"] is None else item["page_index"] + 1
        path = _one_line(item["input_path"])
        click.echo(ROW.format(item["number"], path, page, item["status"], _reason(item)).rstrip())


def _reason(item: Item) -> str:
    if item["error"]:
        return _one_line(item["error"]["reason"])
    return "" if item["instances"] is None else f"{item['instances']} instances"


def _print_csv(items: Iterable[Item]) -> None:
    columns = [*FACTS, *FAILURE, *ARTIFACTS]
    table = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for item in items:
        table.writerow({**item, **(item["error"] or {}), **item["artifacts"]})


def _print_json_lines(items: Iterable[Item]) -> None:
    for item in items:
        click.echo(json.dumps(item))


def _one_line(text: str) -> str:
    return " ".join(text.split())
