"""What a job may ask for can be asked for on the command line."""

from __future__ import annotations

import click
import pytest

from maskmill.cli import main
from maskmill.shared.jobs.records import Options
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.option_flags import given_options, option_flags

FIELDS = ({*Options.model_fields} - {"pdf"}) | {*PdfOptions.model_fields}
# Without a queue nothing goes first, nothing is given up, and no job was before.
OF_A_QUEUE = {"priority", "max_failure_rate", "skip_existing", "since_job"}


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


def given_by(*words: str) -> dict[str, object]:
    """What the flags about instances make of these words."""
    given: dict[str, object] = {}

    @click.command()
    @option_flags("threshold", "classes", "thresholds", "max_instances")
    def command(**flags: object) -> None:
        given.update(given_options(flags))

    command(list(words), standalone_mode=False)
    return given


def test_classes_are_listed_with_commas_or_one_by_one() -> None:
    words = ["--classes", "cat, traffic light,7", "--classes", "dog", "--thresholds", "cat=0.3,a=b=0.4", "--thresholds"]
    given = given_by(*words, "7=.6", "--max-instances", "50")
    options = Options.model_validate(given)
    assert options.classes == ("cat", "traffic light", "7", "dog")
    assert options.thresholds == {"cat": 0.3, "a=b": 0.4, "7": 0.6}
    assert options.max_instances == 50
    assert given_by() == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--classes", " , "], "names no class"),
        (["--thresholds", ","], "names no class"),
        (["--thresholds", "cat"], 'as in "cat=0.3,7=0.6"'),
        (["--thresholds", "=0.3"], 'as in "cat=0.3,7=0.6"'),
        (["--thresholds", "cat=high"], "'high' is not a valid float"),
        (["--thresholds", "cat=1"], "0<x<1"),
        (["--thresholds", "cat=nan"], "0<x<1"),
        (["--thresholds", "cat=0.3,cat=0.4"], "'cat' is given twice"),
        (["--max-instances", "0"], "x>=1"),
        (["--threshold", "nan"], "0<x<1"),
    ],
)
def test_what_is_no_class_no_score_and_no_number_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(click.BadParameter, match=said):
        given_by(*words)


@pytest.mark.parametrize("pages", ["3-1", "0", "a", ""])
def test_pages_that_are_none_are_refused_with_an_example(pages: str) -> None:
    @click.command()
    @option_flags("pages")
    def command(**_: object) -> None:
        pytest.fail("not refused")

    with pytest.raises(click.BadParameter, match="1-3,5,8-"):
        command(["--pages", pages], standalone_mode=False)
