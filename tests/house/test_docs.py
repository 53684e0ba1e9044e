"""The documents say what is: tables as the code decides them, no command, option, path or link that is not there."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml

from docs import generate
from maskmill import cli
from maskmill.api.submission.job_request import JobRequest
from maskmill.client import cli as client_cli
from maskmill.shared import errors
from maskmill.shared.jobs.records import Options
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.settings import PREFIX, Settings
from maskmill.worker import cli as worker_cli
from maskmill.worker.models.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "benchmarks/RESULTS.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# Names the folder of the tests' and benchmarks' data, and is passed over where settings are read.
NO_SETTING = {f"{PREFIX}TEST_DATA"}


def blocks(text: str, *languages: str) -> list[str]:
    """The code blocks in one of these languages."""
    return [code for language, code in FENCE.findall(text) if language in languages]


def spans(text: str) -> list[str]:
    """What stands between single backticks outside code blocks; a `|` is escaped in tables."""
    return [span.replace(r"\|", "|") for span in SPAN.findall(FENCE.sub("", text))]


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of every line of a shell block, and of every span, without comments."""
    lines = [line for block in blocks(text, "sh", "bash", "") for line in block.splitlines()]
    for line in lines + spans(text):
        yield re.sub(r"(^|\s)#.*", "", line).split()


# Tables that come from the code


@each_document
def test_the_generated_tables_are_as_the_code_decides_them(document: Path) -> None:
    text = document.read_text()
    assert text == generate.filled(text), "run `make docs`"


def test_every_table_stands_in_some_document() -> None:
    marked = {name for document in DOCUMENTS for _, name, _ in generate.MARKED.findall(document.read_text())}
    assert marked == set(generate.TABLES)


def test_every_setting_and_every_option_is_described() -> None:
    undescribed = [
        f"{kind.__name__}.{name}"
        for kind in (Settings, Options, PdfOptions)
        for name, field in kind.model_fields.items()
        if not field.description
    ]
    assert undescribed == []


def _tree(kind: type[errors.MaskmillError], depth: int = 0) -> Iterator[tuple[str, int]]:
    yield kind.__name__, depth
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child, depth + 1)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = [(name, depth) for name, (depth, _) in generate.error_tree().items()]
    assert drawn == list(_tree(errors.MaskmillError))


def test_no_two_errors_share_a_code() -> None:
    codes = [getattr(errors, name).code for name in generate.error_tree()]
    assert len(codes) == len(set(codes))


def test_the_exit_codes_are_those_that_commands_leave_with() -> None:
    told = _told(cli.EXIT_CODES)
    assert told == {0} | _exit_codes(cli) | _exit_codes(client_cli) | _exit_codes(worker_cli)
    assert _told(client_cli.EXIT_CODES) <= told
    assert {cli.exit_code(getattr(errors, name)("")) for name in generate.error_tree()} <= told
    assert {click.UsageError.exit_code, click.ClickException.exit_code} <= told


def _told(sentence: str) -> set[int]:
    return {int(code) for code in re.findall(r"(\d+) [^;]+[;.]", sentence)}


def _exit_codes(module: ModuleType) -> set[int]:
    """The numbers behind the names with which a module's code leaves."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    places = [node for node in ast.walk(tree) if _leaves(node)]
    names = {
        node.id for place in places for node in ast.walk(place) if isinstance(node, ast.Name) and node.id.isupper()
    }
    assert names, f"{module} leaves with no code that has a name"
    return {getattr(module, name) for name in names}


def _leaves(node: ast.AST) -> bool:
    """Whether it is a call that ends the process, or the function that decides with what."""
    if isinstance(node, ast.FunctionDef):
        return node.name.endswith("exit_code")
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.exit", "_stop")


# What is shown exists


@each_document
def test_the_commands_and_options_that_are_shown_exist(document: Path) -> None:
    wrong = [problem for words in command_lines(document.read_text()) for problem in _problems(words)]
    assert wrong == []


def _problems(words: Sequence[str]) -> list[str]:
    if not words or words[0] != "maskmill" or len(words) == 1:
        return []
    context = click.Context(cli.main)
    if words[1].startswith("-"):
        return []
    command = cli.main.get_command(context, words[1])
    rest = words[2:]
    while isinstance(command, click.Group) and rest:
        command, rest = command.get_command(context, rest[0]), rest[1:]
    if command is None:
        return [f"no command: {' '.join(words)}"]
    known = {option for parameter in command.params for option in parameter.opts}
    options = [word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return [f"no option {option}: {' '.join(words)}" for option in options if option not in known]


def test_the_options_that_stand_alone_exist() -> None:
    known = {option for command in _all_commands(cli.main) for part in command.params for option in part.opts}
    known |= {"--help", "--version"}
    shown = {
        span.split()[0].split("=")[0]
        for document in DOCUMENTS
        # What PaddleX has stands there as well.
        if document.name != "paddlex-differences.md"
        for span in spans(document.read_text())
        if span.startswith("--")
    }
    assert shown - known == set()


def _all_commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _all_commands(child)


@each_document
def test_the_variables_that_are_shown_are_settings(document: Path) -> None:
    shown = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]\b(?!_)", document.read_text()))
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    assert shown - settings - NO_SETTING == set()


@each_document
def test_the_programs_that_are_shown_exist(document: Path) -> None:
    shown = {
        words[at + 1]
        for words in command_lines(document.read_text())
        for at, word in enumerate(words[:-1])
        if word == "-m" and at and words[at - 1].endswith("python") and "." in words[at + 1]
    }
    assert {name for name in shown if find_spec(name) is None} == set()


def test_the_benchmarks_that_are_shown_by_name_exist() -> None:
    names = set(re.findall(r"python -m benchmarks ([a-z_]+)", "".join(path.read_text() for path in DOCUMENTS)))
    assert {name for name in names if not (ROOT / f"benchmarks/{name}.py").is_file()} == set()


def test_the_make_targets_that_are_shown_exist_and_help_lists_them() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shown = {
        words[1]
        for document in DOCUMENTS
        for words in command_lines(document.read_text())
        if words[:1] == ["make"] and len(words) > 1
    }
    assert shown - targets == set()
    assert {target for target in targets if f"make {target}" not in listed} == set()


def test_the_paths_of_the_api_that_are_shown_exist() -> None:
    served = ["/docs", "/openapi.json", *re.findall(r"`[A-Z]+ (/\S+)`", generate.endpoints())]
    patterns = [re.compile(re.sub(r"\{\w+\}", "[^/]+", path.replace(".", r"\.")) + "$") for path in served]
    roots = "v1|health|instance-segmentation|docs|openapi"
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    found = re.findall(rf"(?:127\.0\.0\.1:8080|[ `\"])(/(?:{roots})[\w./{{}}-]*)", text)
    shown = {path.rstrip(".") for path in found} - {"/v1"}
    assert shown
    assert {path for path in shown if not any(pattern.match(path) for pattern in patterns)} == set()


@each_document
def test_the_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", document.read_text()))
    inside = [link for link in links if not re.match(r"https?://", link)]
    assert [link for link in inside if not _leads_somewhere(document, link)] == []


def _leads_somewhere(document: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    return target.exists() and (not anchor or anchor in _anchors(target.read_text()))


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Code that is shown


@each_document
def test_the_code_that_is_shown_can_be_read(document: Path) -> None:
    text = document.read_text()
    for code in blocks(text, "python"):
        ast.parse(code)
    for code in blocks(text, "json"):
        json.loads(code)
    for code in blocks(text, "yaml"):
        yaml.safe_load(code)
    for code in blocks(text, "sh", "bash"):
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)


@each_document
def test_what_is_imported_is_there(document: Path) -> None:
    nodes = [node for code in blocks(document.read_text(), "python") for node in ast.walk(ast.parse(code))]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    for node in imports:
        module = importlib.import_module(str(node.module))
        assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_the_methods_that_are_shown_exist() -> None:
    from maskmill.client.client import Client
    from maskmill.worker.predict.create_pipeline import InstanceSegmentation
    from maskmill.worker.predict.results import Result

    kinds: dict[str, type] = {"client": Client, "pipeline": InstanceSegmentation, "result": Result}
    code = [block for document in DOCUMENTS for block in blocks(document.read_text(), "python")]
    shown = {
        (node.value.id, node.attr)
        for block in code
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in kinds
    }
    assert {owner for owner, _ in shown} == set(kinds)
    assert {(owner, name) for owner, name in shown if not hasattr(kinds[owner], name)} == set()


def test_the_job_that_is_shown_is_one() -> None:
    documents = [json.loads(code) for code in blocks((ROOT / "docs/api.md").read_text(), "json")]
    jobs = [document for document in documents if "sources" in document]
    assert jobs
    for job in jobs:
        JobRequest.model_validate(job)


def test_the_model_yaml_that_is_shown_is_one() -> None:
    manifests = blocks((ROOT / "docs/models.md").read_text(), "yaml")
    assert manifests
    for manifest in manifests:
        Manifest.model_validate(yaml.safe_load(manifest))


def test_every_key_of_a_model_yaml_has_its_row() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", (ROOT / "docs/models.md").read_text(), re.M)
    assert set(Manifest.model_fields) <= set(rows)


# The README


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_document_is_linked_from_the_readme_and_the_index() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    readme, index = (ROOT / "README.md").read_text(), (ROOT / "docs/README.md").read_text()
    assert {page for page in pages if f"(docs/{page})" not in readme or f"({page})" not in index} == set()


def test_whoever_would_try_a_photo_is_told_of_the_model_first() -> None:
    readme = (ROOT / "README.md").read_text()
    warned, tried = readme.index("drawn shapes only"), readme.index("maskmill submit")
    assert warned < readme.index("maskmill models pull") < tried
