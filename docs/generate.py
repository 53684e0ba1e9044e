"""Write the tables of docs/ that the code decides: `make docs`, or `python -m docs.generate`.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; NAME is a key of TABLES. What is written there by
hand is lost at the next run, and a test compares both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from maskmill.api.app import build
from maskmill.api.services import Services
from maskmill.cli import COMMANDS, EXIT_CODES, main
from maskmill.shared import errors
from maskmill.shared.jobs.records import MOVES, Options
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.settings import PREFIX, Settings

DOCS = Path(__file__).parent
MARKED = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.S)
# A line of the errors' tree: the depth in its branches, the class, what it means.
BRANCH = re.compile(r"^([│├└─ ]*)([A-Z]\w+)\s{2,}(\S.*)$", re.M)
BRANCH_WIDTH = 4
# Defaults that depend on the machine are told in words.
TOLD = {"cpu_threads": "number of cores", "host_name": "the host's name"}

Row = tuple[str, ...]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A table in Markdown; a `|` inside a cell is escaped."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def settings() -> str:
    """Every setting, with its default and its meaning."""
    rows = ((f"`{PREFIX}{name.upper()}`", _default(name, field), _described(field)) for name, field in _settings())
    return table(("variable", "default", "meaning"), rows)


def error_tree() -> dict[str, tuple[int, str]]:
    """The tree that shared/errors.py draws: a class's name to its depth and what it means."""
    drawn = BRANCH.findall(errors.__doc__ or "")
    return {name: (len(branch) // BRANCH_WIDTH, meaning) for branch, name, meaning in drawn}


def error_table() -> str:
    """Every error with its code, its HTTP status, whether it may pass, and what it means."""
    rows = (_error_row(getattr(errors, name), meaning) for name, (_, meaning) in error_tree().items())
    return table(("code", "HTTP", "retried", "what is wrong, what to do"), rows)


def exit_codes() -> str:
    """What a command may leave with."""
    told = EXIT_CODES.removeprefix("Exit codes: ").removesuffix(".")
    return table(("exit code", "meaning"), (tuple(one.split(" ", 1)) for one in told.split("; ")))


def options() -> str:
    """What may be asked for in a job's `options`."""
    return _fields(Options)


def pdf_options() -> str:
    """What may be asked for in `pdf`."""
    return _fields(PdfOptions)


def states() -> str:
    """Which state follows which."""
    return table(
        ("state", "may become"),
        ((f"`{state}`", ", ".join(f"`{after}`" for after in sorted(MOVES[state])) or "final") for state in MOVES),
    )


def endpoints() -> str:
    """Every path that the API serves and describes in its OpenAPI document."""
    document = build(Services.open(Settings())).test_client().get("/openapi.json").json or {}
    rows = (
        (f"`{method.upper()} {path}`", operation["summary"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return table(("request", "what it does"), rows)


def commands() -> str:
    """Every command with its options, as its --help has them."""
    context = click.Context(main)
    return "\n".join(_command(f"maskmill {name}", main.get_command(context, name)) for name in COMMANDS)


TABLES: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "errors": error_table,
    "exit-codes": exit_codes,
    "options": options,
    "pdf-options": pdf_options,
    "states": states,
    "endpoints": endpoints,
    "commands": commands,
}


def filled(text: str) -> str:
    """The document with every marked table as the code decides it; KeyError for a name that is not in TABLES."""
    return MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


def _settings() -> Iterable[tuple[str, FieldInfo]]:
    return Settings.model_fields.items()


def _default(name: str, field: FieldInfo) -> str:
    if name in TOLD:
        return TOLD[name]
    value = field.default
    if value is None or value == ():
        return "none"
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    return f"`{text.replace(str(Path.home()), '~')}`"


def _described(field: FieldInfo) -> str:
    return _marked((field.description or "").removesuffix("."))


def _marked(text: str) -> str:
    """The text with the names of settings set as code."""
    return re.sub(rf"\b{PREFIX}[A-Z_]+", r"`\g<0>`", text)


def _error_row(kind: type[errors.MaskmillError], meaning: str) -> Row:
    return f"`{kind.code}`", str(kind.status), "yes" if kind.retryable else "no", _marked(meaning)


def _fields(kind: type[BaseModel]) -> str:
    properties = kind.model_json_schema()["properties"]
    rows = (
        (f"`{name}`", _kind(properties[name]), _shown(field.default), _described(field))
        for name, field in kind.model_fields.items()
    )
    return table(("field", "value", "default", "meaning"), rows)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return "see below" if isinstance(value, BaseModel) else f"`{json.dumps(value)}`"


def _kind(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words; null is told by the default."""
    [schema, *_] = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "exclusiveMinimum" in schema:
        return f"between {schema['exclusiveMinimum']} and {schema['exclusiveMaximum']}, both excluded"
    if "minimum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}" if "maximum" in schema else f"{schema['minimum']} or more"
    return {"boolean": "true or false", "string": "text", "array": "list"}.get(schema.get("type", ""), "object")


def _command(name: str, command: click.Command | None) -> str:
    assert command is not None
    if isinstance(command, click.Group):
        return "\n".join(_command(f"{name} {child}", found) for child, found in command.commands.items())
    arguments = "".join(f" {parameter.make_metavar(click.Context(command))}" for parameter in _arguments(command))
    help_text = _marked("\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n")))
    rows = list(_option_rows(command))
    shown = f"\n{table(('option', 'meaning'), rows)}" if rows else ""
    return f"## {name}\n\n`{name}{arguments}`\n\n{help_text}\n{shown}"


def _arguments(command: click.Command) -> Iterator[click.Argument]:
    return (parameter for parameter in command.params if isinstance(parameter, click.Argument))


def _option_rows(command: click.Command) -> Iterator[Row]:
    context = click.Context(command)
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record:
            yield f"`{record[0]}`", " ".join(record[1].split())


def write() -> None:
    """Bring every document up to date, and say which were not."""
    for document in sorted(DOCS.glob("*.md")):
        text = document.read_text(encoding="utf-8")
        if (now := filled(text)) != text:
            document.write_text(now, encoding="utf-8")
            click.echo(f"{document.relative_to(DOCS.parent)} is brought up to date")


if __name__ == "__main__":
    write()
