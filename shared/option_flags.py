"""The flags of the commands that segment: one for each field of Options and PdfOptions, under the field's name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from maskmill.shared.jobs.sources import PdfOptions

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class _UnitRange(click.FloatRange):
    """A number between 0 and 1, both excluded; NaN, which compares with neither, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not in the range 0<x<1.", param, ctx)
        return number


SCORES_EXAMPLE = "cat=0.3,7=0.6"
UNIT = _UnitRange(0, 1, min_open=True, max_open=True)


def _check_pages(_ctx: Any, _param: Any, pages: str | None) -> str | None:
    try:
        return PdfOptions(pages=pages).pages
    except ValidationError:
        raise click.BadParameter(f'{pages!r}: pages count from 1 and ascend, as in "1-3,5,8-"') from None


def _listed(texts: Sequence[str], example: str) -> list[str]:
    """What stands between the commas of a flag that may be given several times."""
    parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if texts and not parts:
        raise click.BadParameter(f'names no class; they are listed as in "{example}"')
    return parts


def _classes(_ctx: Any, _param: Any, texts: Sequence[str]) -> tuple[str, ...] | None:
    return tuple(_listed(texts, "cat,dog,7")) or None


def _thresholds(ctx: Any, param: Any, texts: Sequence[str]) -> dict[str, float] | None:
    thresholds: dict[str, float] = {}
    for part in _listed(texts, SCORES_EXAMPLE):
        name, equals, score = (piece.strip() for piece in part.rpartition("="))
        if not (name and equals):
            raise click.BadParameter(f'{part!r}: a class and its score are given as in "{SCORES_EXAMPLE}"')
        if name in thresholds:
            raise click.BadParameter(f"{name!r} is given twice")
        thresholds[name] = UNIT(score, param, ctx)
    return thresholds or None


def _false_if_given(_ctx: Any, _param: Any, given: bool) -> bool | None:
    return False if given else None


def _true_if_given(_ctx: Any, _param: Any, given: bool) -> bool | None:
    return True if given else None


FLAGS = {
    "model": click.option("--model", help="The model to use [default: the service's]."),
    "threshold": click.option("--threshold", type=UNIT, help="Lowest score kept [default: the model's own]."),
    "nms_iou": click.option(
        "--nms-iou", type=UNIT, help="Overlap at which the lower score is dropped [default: the model's own]."
    ),
    "classes": click.option(
        "--classes",
        multiple=True,
        callback=_classes,
        metavar="NAME|ID,...",
        help="Keep these classes only; a label that holds a comma by its number [default: all].",
    ),
    "thresholds": click.option(
        "--thresholds",
        multiple=True,
        callback=_thresholds,
        metavar="NAME|ID=SCORE,...",
        help="Lowest score kept of these classes, for the others --threshold.",
    ),
    "max_instances": click.option(
        "--max-instances", type=click.IntRange(1), help="Keep at most so many of a picture, the best [default: all]."
    ),
    "mask_format": click.option(
        "--mask-format",
        type=click.Choice(["rle", "polygon", "dense"]),
        help="Form of the masks in the JSON; PaddleX's is dense [default: rle].",
    ),
    "save_json": click.option("--no-json", "save_json", is_flag=True, callback=_false_if_given, help="No _res.json."),
    "save_image": click.option("--no-image", "save_image", is_flag=True, callback=_false_if_given, help="No pictures."),
    "image_format": click.option(
        "--image-format", type=click.Choice(["jpg", "input"]), help="Form of the drawn picture: JPEG, or the input's."
    ),
    "sample": click.option("--sample", type=click.IntRange(2), metavar="N", help="Only every Nth input."),
    "skip_existing": click.option(
        "--skip-existing",
        is_flag=True,
        callback=_true_if_given,
        help="Skip objects of buckets that the last such job has done.",
    ),
    "since_job": click.option("--since-job", metavar="JOB_ID", help="Skip objects of buckets that this job has done."),
    "priority": click.option("--priority", type=click.IntRange(0, 9), help="Higher goes first [default: 0]."),
    "max_failure_rate": click.option(
        "--max-failure-rate",
        type=click.FloatRange(0, 1),
        help="The job fails once more than this share of its items has failed [default: 1].",
    ),
    "dpi": click.option("--dpi", type=click.IntRange(36, 600), help="Resolution of PDF pages [default: 144]."),
    "pages": click.option("--pages", callback=_check_pages, help='PDF pages from 1, as in "1-3,5,8-" [default: all].'),
    "password": click.option("--password", help="Opens an encrypted PDF."),
}


def option_flags(*names: str) -> Callable[[Decorated], Decorated]:
    """Gives a command the flags of these names, in their order."""

    def decorate(command: Decorated) -> Decorated:
        for name in reversed(names):
            command = FLAGS[name](command)
        return command

    return decorate


def given_options(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What was given of the flags, as Options takes it."""
    given = {name: value for name, value in flags.items() if name in FLAGS and value is not None}
    pdf = {name: given.pop(name) for name in PdfOptions.model_fields if name in given}
    return given | ({"pdf": pdf} if pdf else {})
