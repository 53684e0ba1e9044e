"""The README says what is: every setting with its default, every error, only commands that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest
from pydantic.fields import FieldInfo

from maskmill.cli import COMMANDS, main
from maskmill.shared import errors
from maskmill.shared.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text() if (ROOT / "README.md").is_file() else ""
# Defaults that depend on the machine are told in words.
TOLD = {"cpu_threads": "number of cores", "host_name": "the host's name"}


def setting_rows() -> list[str]:
    """The README's row of every setting."""
    fields = Settings.model_fields.items()
    return [f"| `{PREFIX}{name.upper()}` | {_default(name, field)} | {field.description} |" for name, field in fields]


def _default(name: str, field: FieldInfo) -> str:
    if name in TOLD:
        return TOLD[name]
    value = field.default
    if value is None or value == ():
        return "none"
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    return f"`{text.replace(str(Path.home()), '~')}`"


ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MaskmillError)]


def _shell_lines() -> list[str]:
    blocks = re.findall(r"^```(?:sh|bash)?\n(.*?)^```", README, re.S | re.M)
    return [line.strip() for block in blocks for line in block.splitlines()]


def test_the_readme_has_every_setting_with_its_default_and_no_other() -> None:
    rows = re.findall(rf"^\| `{PREFIX}.*$", README, re.M)
    assert rows == setting_rows()


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_the_readme_has_every_error_with_its_status(kind: type[errors.MaskmillError]) -> None:
    retried = "yes" if kind.retryable else "no"
    assert re.search(rf"^\| `{kind.code}` \| {kind.status} \| {retried} \| \w.* \|$", README, re.M)


def test_the_commands_and_options_that_the_readme_shows_exist() -> None:
    lines = [line.split("#")[0].split() for line in _shell_lines() if line.startswith("maskmill ")]
    shown = {(words[1], word.split("=")[0]) for words in lines for word in words[2:] if word.startswith("--")}
    assert {words[1] for words in lines} <= set(COMMANDS)
    context = click.Context(main)
    for name, option in shown:
        command = main.get_command(context, name)
        assert command
        assert any(option in parameter.opts for parameter in command.params), f"{name} {option}"


def test_every_command_is_in_the_readme() -> None:
    assert {name for name in COMMANDS if f"`{name}`" not in README and f"maskmill {name}" not in README} == set()


def test_the_make_targets_that_are_shown_exist_and_help_lists_them() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.M))
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    documents = README + (ROOT / "CONTRIBUTING.md").read_text() + (ROOT / "ARCHITECTURE.md").read_text()
    assert set(re.findall(r"\bmake ([a-z]+)\b(?=[`\s#])", "\n".join(_code(documents)))) <= targets
    assert {target for target in targets if f"make {target}" not in listed} == set()


def test_the_files_that_the_documents_link_to_exist() -> None:
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / document).read_text())
        assert [link for link in links if not (ROOT / link).exists()] == []


def _code(text: str) -> list[str]:
    """Code spans and blocks."""
    return re.findall(r"^```.*?^```|`[^`\n]+`", text, re.S | re.M)
