"""What a job may ask for can be asked for on the command line."""

from __future__ import annotations

import click
import pytest

from maskmill.cli import main
from maskmill.shared.jobs.records import Options
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.option_flags import given_options, option_flags

FIELDS = ({*Options.model_fields} - {"pdf"}) | {*PdfOptions.model_fields}
# Without a queue nothing goes first, and nothing is given up.
OF_A_QUEUE = {"priority", "max_failure_rate"}


def parameters(name: str) -> set[str]:
    command = main.get_command(click.Context(main), name)
    assert command
    return {str(parameter.name) for parameter in command.params}


@pytest.mark.parametrize(("command", "fields"), [("submit", FIELDS), ("predict", FIELDS - OF_A_QUEUE)])
def test_every_option_is_reached_by_a_flag(command: str, fields: set[str]) -> None:
    assert fields - parameters(command) == set()


def test_flags_become_the_options_that_they_name() -> None:
    words = (
        "--threshold 0.3 --nms-iou 0.6 --max-failure-rate 0.5 --no-json --no-image --dpi 200 --pages 2- --password x"
    )
    given: dict[str, object] = {}

    @click.command()
    @option_flags("threshold", "nms_iou", "max_failure_rate", "save_json", "save_image", "dpi", "pages", "password")
    def command(**flags: object) -> None:
        given.update(given_options(flags))

    command(words.split(), standalone_mode=False)
    options = Options.model_validate(given)
    assert (options.threshold, options.nms_iou, options.max_failure_rate) == (0.3, 0.6, 0.5)
    assert (options.save_json, options.save_image) == (False, False)
    assert options.pdf == PdfOptions(dpi=200, pages="2-", password="x")
    given.clear()
    command([], standalone_mode=False)
    assert given == {}


@pytest.mark.parametrize("pages", ["3-1", "0", "a", ""])
def test_pages_that_are_none_are_refused_with_an_example(pages: str) -> None:
    @click.command()
    @option_flags("pages")
    def command(**_: object) -> None:
        pytest.fail("not refused")

    with pytest.raises(click.BadParameter, match="1-3,5,8-"):
        command(["--pages", pages], standalone_mode=False)
