"""The commands of a worker host: `worker`, `control`, `predict`, `models`. Heavy imports stand inside them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maskmill.shared.embedded_model import drawn_shapes_only
from maskmill.shared.logs import set_up_logging
from maskmill.shared.option_flags import UNIT, given_options, option_flags
from maskmill.shared.settings import Settings

if TYPE_CHECKING:
    from maskmill.worker.models.library.catalogue import CatalogueModel
    from maskmill.worker.predict.predictor import Prediction

SOME_FAILED, WRONG = 1, 2
LANES = ("bulk", "interactive")

device_option = click.option(
    "--device", help='As in "cpu", "gpu:0", "gpu:0,1", "npu:0" [default: gpu:0 if it works, else cpu].'
)
FOLDER = click.Path(file_okay=False, path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def split_lanes(_ctx: Any, _param: Any, text: str) -> tuple[str, ...]:
    """The lanes that `text` lists; raises BadParameter for another word."""
    lanes = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not lanes or not set(lanes) <= set(LANES):
        raise click.BadParameter(f"{text!r}: lanes are {' and '.join(LANES)}, separated by a comma")
    return lanes


@click.command()
@click.option("--devices", help='As in "cpu", "gpu:0,gpu:1", "gpu:0,1" [default: gpu:0 if it works, else cpu].')
@click.option(
    "--lanes", default=",".join(LANES), show_default=True, callback=split_lanes, help="Which queues to serve."
)
@click.option("--models", help="Names or paths, comma-separated [default: MASKMILL_MODELS].")
def worker(devices: str | None, lanes: tuple[str, ...], models: str | None) -> None:
    """Run jobs on this machine's devices: one process a device and lane, until SIGTERM or Ctrl-C."""
    from maskmill.worker.processes.supervisor import device_roles, run_roles

    settings = read_settings(models)
    set_up_logging(settings.log_level, "supervisor")
    run_roles(device_roles(devices or choose_device(settings), lanes), settings)


@click.command()
def control() -> None:
    """Plan, sweep and close jobs; run at least one somewhere, until SIGTERM or Ctrl-C."""
    from maskmill.worker.processes.supervisor import CONTROL_ROLES, run_roles

    settings = Settings.from_env(os.environ)
    set_up_logging(settings.log_level, "supervisor")
    run_roles(CONTROL_ROLES, settings)


@click.command()
@click.argument("inputs", nargs=-1, metavar="FILES|FOLDERS|URLS...")
@click.option("--input", "more_inputs", multiple=True, metavar="FILE|FOLDER|URL", help="The same as an argument.")
@click.option(
    "--pipeline",
    default="instance_segmentation",
    show_default=True,
    metavar="NAME|YAML",
    help="A configuration in PaddleX's form; the other options go before it.",
)
@click.option("--model", help="Name or path [default: the configuration's, else the first of MASKMILL_MODELS].")
@device_option
@click.option(
    "--threshold",
    type=UNIT,
    help="Lowest score kept [default: the configuration's, else 0.5; of a PaddleX model its draw_threshold].",
)
@option_flags("nms_iou", "classes", "thresholds", "max_instances", "mask_format", "save_json", "save_image")
@option_flags("image_format", "dpi", "pages", "password", "sample")
@click.option("--out", type=FOLDER, help="Folder for the results: pictures as JPEG, in the inputs' own folders.")
@click.option("--save_path", type=FOLDER, help="Folder for the results: pictures in their input's format, all in it.")
@click.option("--json", "as_json", is_flag=True, help="Print each result's JSON document on a line of its own.")
def predict(inputs: tuple[str, ...], more_inputs: tuple[str, ...], as_json: bool, **how: Any) -> None:
    """Segment without any service; several devices get a process each.

    Without --threshold it is 0.5, as PaddleX's command has it; a job takes the model's own.
    """
    from maskmill.worker.device import parse_devices
    from maskmill.worker.predict.paddlex_config import configure, read_config
    from maskmill.worker.predict.predictor import Predictor

    if not inputs + more_inputs:
        raise click.UsageError("name at least one file, folder or URL")
    config = read_config(how["pipeline"])
    settings = configure(Settings.from_env(os.environ), config, how["model"])
    devices = parse_devices(how["device"] or choose_device(settings))
    keep = _saver(how)
    failed = False
    with Predictor(settings, settings.models[0], *devices) as predictor:
        for prediction in predictor.predict(inputs + more_inputs, _options(config.threshold, how, as_json=as_json)):
            keep(prediction)
            failed |= prediction.failure is not None
            _show(prediction, as_json=as_json)
    if "models" not in settings.model_fields_set:
        click.echo(drawn_shapes_only("maskmill predict --model"), err=True)
    sys.exit(SOME_FAILED if failed else 0)


@click.group()
def models() -> None:
    """List models, pull or add one, or check that one runs here."""


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the models that are known by name."""
    from maskmill.worker.models.library.inventory import known_models

    found = known_models(Settings.from_env(os.environ).models_dir)
    if as_json:
        click.echo(json.dumps([model.as_dict() for model in found]))
    for model in [] if as_json else found:
        click.echo(f"{model.name:20} {model.family or '-':12} {model.problem or model.path}")


@models.command("add")
@click.option("--paddlex", "source", required=True, type=FOLDER, metavar="DIR", help="The model's directory.")
@click.option("--name", help="What to call it here [default: the name in its inference.yml].")
def add_model(source: Path, name: str | None) -> None:
    """Add a PaddleX model to the models folder, converted by paddle2onnx where it is not ONNX yet."""
    from maskmill.worker.models.library.add import add_paddlex

    click.echo(add_paddlex(source, Settings.from_env(os.environ), name))


@models.command("pull")
@click.argument("name", required=False)
@click.option("--list", "list_them", is_flag=True, help="List what can be pulled.")
def pull_model(name: str | None, list_them: bool) -> None:
    """Download a model of the catalogue into the models folder, verified; goes on where it was interrupted."""
    from maskmill.worker.models.library.catalogue import catalogue

    settings = Settings.from_env(os.environ)
    known = catalogue(settings.catalogue)
    for each, entry in known.items() if list_them else ():
        click.echo(f"{each:20} {entry.size / 1e6:8.1f} MB  {entry.licence:12} {entry.about}")
    if list_them:
        return
    if name not in known:
        unknown = f"{name!r} is not in the catalogue; " if name else ""
        raise click.UsageError(f"{unknown}name a model: {', '.join(known)}")
    _pull(name, known[name], settings)


@models.command("check")
@click.argument("name", metavar="NAME|PATH")
@device_option
@json_option
def check_model(name: str, device: str | None, as_json: bool) -> None:
    """Load a model on a device, run it, and say what it is."""
    from maskmill.worker.device import parse_devices
    from maskmill.worker.models.library.inventory import check

    settings = read_settings(name)
    report = check(name, parse_devices(device or choose_device(settings))[0], settings)
    if as_json:
        click.echo(json.dumps(report))
    for key, value in {} if as_json else report.items():
        click.echo(f"{key:10} {', '.join(value) if isinstance(value, list) else value}")


def _pull(name: str, entry: CatalogueModel, settings: Settings) -> None:
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from maskmill.shared.egress.http import Egress
    from maskmill.worker.models.library.pull import pull

    columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with contextlib.closing(Egress(settings)) as egress, Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=entry.size)
        folder = pull(name, entry, settings.models_dir, egress, lambda done: progress.update(task, completed=done))
    click.echo(f"{folder}: {entry.licence}; try it with: maskmill models check {name}")


def read_settings(models: str | None) -> Settings:
    """The settings of the environment, with other models where some are named."""
    given = {"MASKMILL_MODELS": models} if models else {}
    return Settings.from_env({**os.environ, **given})


def choose_device(settings: Settings) -> str:
    """The default device; says on stderr why a GPU that should be there is not used."""
    from maskmill.worker.models.library.default_device import default_device

    device, why = default_device(settings)
    if why:
        click.echo(f"Using {device}: {why}", err=True)
    return device


def _options(configured: float | None, how: dict[str, Any], *, as_json: bool) -> Any:
    """The options of what is saved or printed, and of nothing more."""
    from maskmill.shared.jobs.records import Options

    saved = bool(how["save_path"] or how["out"])
    defaults = {"threshold": configured, "image_format": "input" if how["save_path"] else "jpg"}
    given = given_options({name: value for name, value in how.items() if name != "model"})
    wanted = {
        "save_json": as_json or (saved and how["save_json"] is not False),
        "save_image": saved and how["save_image"] is not False,
    }
    return Options.model_validate(defaults | given | wanted)


def _saver(how: dict[str, Any]) -> Callable[[Prediction], None]:
    """What saves a prediction: as the inputs lie below --out, or side by side in --save_path."""
    from maskmill.worker.predict.saving import writing_to
    from maskmill.worker.sources.artifact_names import Names, seed_name

    folder = how["save_path"] or how["out"]
    names = Names() if how["save_path"] else None
    kinds = [kind for kind in ("json", "image") if how[f"save_{kind}"] is not False]
    if folder:
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def save(prediction: Prediction) -> None:
        if folder:
            name = names.give(seed_name(prediction.item.input_path, prediction.item.page_index)) if names else None
            prediction.save(folder, name, kinds=kinds)

    return save


def _show(prediction: Prediction, *, as_json: bool) -> None:
    from maskmill.worker.predict.results import with_input

    item, failure = prediction.item, prediction.failure
    if not as_json:
        page = f" page {item.page_index + 1}" if item.page_index is not None else ""
        outcome = failure.reason if failure else f"{prediction.instances} instances"
        click.echo(with_input(f"{item.input_path}{page}", outcome), err=failure is not None)
    elif failure:
        click.echo(json.dumps({"input_path": item.input_path, "page_index": item.page_index, "error": dict(failure)}))
    else:
        click.echo(prediction.artifacts["json"].data)


__all__ = ["choose_device", "control", "models", "predict", "read_settings", "split_lanes", "worker"]
