"""`maskmill up`: everything on one machine, the same processes as in production; only settings differ."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import click

from maskmill.shared.embedded_model import drawn_shapes_only
from maskmill.shared.settings import Settings
from maskmill.worker.cli import LANES, choose_device, read_settings, split_lanes

DEFAULT_DATA = Path("~/.maskmill")


def check_networks(_ctx: Any, _param: Any, networks: tuple[str, ...]) -> tuple[str, ...]:
    """The networks as they are written; raises BadParameter for what is none."""
    try:
        return tuple(str(ipaddress.ip_network(network)) for network in networks)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write it as in 10.0.0.0/8") from None


@click.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA,
    show_default=True,
    help="Folder for storage, Redis's files and logs.",
)
@click.option("--devices", help='As in "cpu", "gpu:0,gpu:1", "gpu:0,1" [default: gpu:0 if it works, else cpu].')
@click.option("--lanes", default=",".join(LANES), show_default=True, callback=split_lanes, help="Queues to serve.")
@click.option("--models", help="Names or paths, comma-separated [default: MASKMILL_MODELS].")
@click.option("--port", type=click.IntRange(0, 65535), help="The API's port, 0 for any free one [default: 8080].")
@click.option("--redis-port", type=click.IntRange(0, 65535), default=0, help="Redis's port [default: any free one].")
@click.option(
    "--local-root",
    "roots",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="Folder that jobs may read by path; may be repeated.",
)
@click.option(
    "--allow-network",
    "networks",
    multiple=True,
    callback=check_networks,
    help="Private network (CIDR) that URLs may reach; may be repeated.",
)
@click.option("--verbose", is_flag=True, help="Show the processes' logs here as well.")
def up(data: Path, devices: str | None, models: str | None, verbose: bool, **rest: Any) -> None:
    """Run everything on this machine until Ctrl-C: Redis, workers, API.

    It starts a Redis and a storage folder of its own, whatever MASKMILL_REDIS_URL and MASKMILL_STORAGE_URL say.
    """
    from maskmill.deploy.local.data_folder import DataFolder
    from maskmill.deploy.local.follow_logs import Follower
    from maskmill.deploy.local.stack import Plan, Stack
    from maskmill.shared.logs import set_up_logging
    from maskmill.worker.models.package import find
    from maskmill.worker.processes.supervisor import stop_on_signals

    settings = _settings(read_settings(models), rest["port"], rest["roots"], rest["networks"])
    for model in settings.models:
        find(model, settings.models_dir)
    set_up_logging(settings.log_level, "up")
    stop = stop_on_signals()
    folder = DataFolder(data)
    with Stack(settings, folder, Plan(devices or choose_device(settings), rest["lanes"], rest["redis_port"])) as stack:
        if verbose:
            Follower(folder.logs).start()
        click.echo("Starting…", err=True)
        if stack.start(stop):
            if "models" not in settings.model_fields_set:
                click.echo(drawn_shapes_only("maskmill up --models"), err=True)
            _welcome(stack.url, folder.path)
        while not stop.wait(0.2):
            stack.tend()
        click.echo("Stopping: what runs is finished first. Ctrl-C again ends it at once.", err=True)


def _settings(settings: Settings, port: int | None, roots: tuple[Path, ...], networks: tuple[str, ...]) -> Settings:
    update = {
        "api_port": settings.api_port if port is None else port,
        "local_roots": settings.local_roots + roots,
        "allow_networks": settings.allow_networks + networks,
    }
    return settings.model_copy(update=update)


def _welcome(url: str, data: Path) -> None:
    where = "" if url == "http://127.0.0.1:8080" else f" --api {url}"
    click.echo(
        f"""Maskmill is ready.
  API    {url}
  docs   {url}/docs
  data   {data} (logs in {data / "logs"})
Next, in another terminal:
  maskmill submit PICTURE.jpg FOLDER URL --wait --out results{where}
  maskmill jobs{where}
  curl -F files=@PICTURE.jpg {url}/v1/jobs
Ctrl-C stops everything."""
    )
