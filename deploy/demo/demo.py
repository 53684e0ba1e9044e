"""`maskmill demo`: one mixed job of drawn inputs through the whole stack, on this machine, in one command."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maskmill.shared.errors import MaskmillError

if TYPE_CHECKING:
    from maskmill.client.client import Client
    from maskmill.deploy.demo.samples import Samples
    from maskmill.deploy.local.stack import Stack
    from maskmill.shared.jobs.records import JobStatus

Items = list[dict[str, Any]]


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("maskmill-demo"),
    show_default=True,
    help="Folder for inputs and results.",
)
@click.option("--devices", help='As in "cpu" or "gpu:0,1" [default: gpu:0 if it works, else cpu].')
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The API's port [default: any free one].")
def demo(out: Path, devices: str | None, port: int) -> None:
    """Segment drawn pictures, a PDF, a URL, a folder and two broken files, and show what became of each."""
    from maskmill.deploy.demo.samples import draw_samples

    # SIGTERM leaves through the same `with` blocks as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    out = out.absolute()
    click.echo(f"Drawing the inputs in {out / 'inputs'}")
    samples = draw_samples(out / "inputs")
    with ExitStack() as opened:
        stack = _open_stack(opened, samples, _data_folder(opened, out), devices, port)
        click.echo("Starting Redis, the control worker, a worker for each lane, and the API")
        stack.start(threading.Event())
        wrong = _run(stack, samples, _serve(opened, samples.served), out / "results")
        click.echo("Stopping everything")
        if wrong:
            raise click.ClickException(f"{wrong}; the logs are kept in {stack.logs}")
    click.echo(f"Done. Pictures with their masks drawn: {out / 'results'}")


def _data_folder(opened: ExitStack, out: Path) -> Path:
    """A fresh folder, removed at the end unless its logs are needed to see what went wrong."""
    data = Path(tempfile.mkdtemp(prefix="stack-", dir=out))

    def tidy(_kind: Any, error: BaseException | None, _trace: Any) -> None:
        if not isinstance(error, (MaskmillError, click.ClickException)):
            shutil.rmtree(data, ignore_errors=True)

    opened.push(tidy)
    return data


def _open_stack(opened: ExitStack, samples: Samples, data: Path, devices: str | None, port: int) -> Stack:
    from maskmill.deploy.local.data_folder import DataFolder
    from maskmill.deploy.local.stack import Plan, Stack
    from maskmill.shared.logs import set_up_logging
    from maskmill.worker.cli import choose_device, read_settings

    update = {"api_port": port, "local_roots": (samples.folder,), "allow_networks": ("127.0.0.1/32",)}
    settings = read_settings("shapes").model_copy(update=update)
    set_up_logging(settings.log_level, "demo")
    return opened.enter_context(Stack(settings, DataFolder(data), Plan(devices or choose_device(settings))))


def _serve(opened: ExitStack, file: Path) -> str:
    from maskmill.deploy.demo.serve_folder import serve_folder

    return f"{opened.enter_context(serve_folder(file.parent))}/{file.name}"


def _run(stack: Stack, samples: Samples, url: str, results: Path) -> str:
    """Run the job and show what became of it; what is wrong with that, or nothing."""
    from maskmill.client.client import Client, ClientError
    from maskmill.deploy.demo.table import show_items

    client = Client(stack.url)
    try:
        job = client.submit([*samples.uploads, url], name="demo", server_paths=[samples.folder])
        click.echo(f"Job {job.id}: {stack.url}/v1/jobs/{job.id}")
        status = _wait(client, job.id, stack)
        items = list(client.items(job.id))
        client.fetch(job.id, results)
    except ClientError as error:
        return error.reason
    show_items(items)
    return _compare(status, items, samples, results)


def _wait(client: Client, job_id: str, stack: Stack) -> JobStatus:
    from maskmill.client.console import bar, pace

    with bar("items", hidden=False) as advance:

        def progress(seen: JobStatus) -> None:
            stack.tend()
            advance(seen.counts.done, seen.counts.total, pace(seen))

        return client.wait(job_id, progress, every=0.2)


def _compare(status: JobStatus, items: Items, samples: Samples, results: Path) -> str:
    if status.state != "completed" or len(items) != samples.items:
        return f"the job is {status.state} with {len(items)} items, not completed with {samples.items}"
    failures = {Path(item["input_path"]).name: item["error"]["code"] for item in items if item["status"] == "failed"}
    if failures != samples.failures:
        return f"these failed: {failures}, not {samples.failures}"
    names = [name for item in items for name in item["artifacts"].values()]
    missing = [name for name in names if not (results / name).is_file()]
    if missing or len(names) != 2 * (samples.items - len(failures)):
        return f"artifacts are missing: {missing or len(names)}"
    return ""
