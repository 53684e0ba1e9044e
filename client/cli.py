"""The commands of the HTTP client.

Exit codes: 0 every item succeeded, 1 some items failed, 2 the command or request is wrong, 3 the job failed or
was cancelled, 4 the service cannot be reached, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import click

from maskmill.client.console import bar, describe, pace
from maskmill.shared.errors import InvalidRequest
from maskmill.shared.jobs.records import JobStatus
from maskmill.shared.settings import Settings

if TYPE_CHECKING:
    from maskmill.client.client import Client

SOME_FAILED, WRONG, JOB_FAILED, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 130
EXIT_CODES = (
    "Exit codes: 0 every item succeeded; 1 some items failed; 2 the command or request is wrong; "
    "3 the job failed or was cancelled; 4 the service cannot be reached; 130 interrupted."
)
SHOWN_FAILURES = 5

P = ParamSpec("P")


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn the client's errors into a line on stderr and the exit code that belongs to it."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        from maskmill.client.client import ClientError, ServiceUnreachable

        try:
            command(*args, **kwargs)
        except ServiceUnreachable as error:
            _stop(UNREACHABLE, error.reason)
        except ClientError as error:
            _stop(WRONG, error.reason)

    return wrapped


api_option = click.option(
    "--api", "url", metavar="URL", help="Where the service is [default: MASKMILL_API_HOST and MASKMILL_API_PORT]."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and no progress.")
out_option = click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the results; implies --wait."
)


@click.command(epilog=EXIT_CODES)
@click.argument("inputs", nargs=-1, required=True, metavar="FILES|FOLDERS|URLS...")
@api_option
@click.option("--wait", is_flag=True, help="Wait until the job is done.")
@out_option
@click.option("--model", help="The model to use [default: the service's].")
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Lowest score kept.")
@click.option("--mask-format", type=click.Choice(["rle", "polygon", "dense"]), help="Form of the masks in the JSON.")
@click.option("--image-format", type=click.Choice(["jpg", "input"]), help="Form of the drawn picture.")
@click.option("--dpi", type=click.IntRange(36, 600), help="Resolution at which PDF pages are rendered.")
@click.option("--pages", help='PDF pages from 1, as in "1-3,5,8-".')
@click.option("--password", help="Opens an encrypted PDF.")
@click.option("--priority", type=click.IntRange(0, 9), help="Higher goes first.")
@click.option("--name", help="A name for people.")
@click.option("--local", is_flag=True, help="Send the paths, not the files: the worker reads them from its own disk.")
@json_option
@reports_errors
def submit(inputs: tuple[str, ...], url: str | None, name: str | None, local: bool, wait: bool, **rest: Any) -> None:
    """Submit files, folders and URLs as one job."""
    out, as_json = rest.pop("out"), rest.pop("as_json")
    pdf = _given({key: rest.pop(key) for key in ("dpi", "pages", "password")})
    options = _given(rest) | ({"pdf": pdf} if pdf else {})
    client = _client(url)
    with bar("MB sent", hidden=as_json) as advance:
        status = client.submit(
            inputs,
            options=options,
            name=name,
            local=local,
            progress=lambda sent, total: advance(_mb(sent), _mb(total), ""),
        )
    if wait or out:
        _say(as_json, f"Job {status.id} is accepted.")
        _finish(client, status.id, out, as_json=as_json)
    elif as_json:
        click.echo(status.model_dump_json())
    else:
        click.echo(status.id)


@click.command(epilog=EXIT_CODES)
@click.argument("job_id")
@api_option
@json_option
@reports_errors
def status(job_id: str, url: str | None, as_json: bool) -> None:
    """Show where a job stands."""
    found = _client(url).status(job_id)
    click.echo(found.model_dump_json() if as_json else describe(found))


@click.command(epilog=EXIT_CODES)
@click.argument("job_id")
@api_option
@out_option
@json_option
@reports_errors
def watch(job_id: str, url: str | None, out: Path | None, as_json: bool) -> None:
    """Watch a job until it is done."""
    _finish(_client(url), job_id, out, as_json=as_json)


@click.command(epilog=EXIT_CODES)
@click.argument("job_id")
@api_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder [default: maskmill-JOB_ID].")
@json_option
@reports_errors
def fetch(job_id: str, url: str | None, out: Path | None, as_json: bool) -> None:
    """Download a job's results so far; what is there already is skipped."""
    client = _client(url)
    found = client.status(job_id)
    folder = out or Path(f"maskmill-{job_id}")
    _fetch(client, found, folder, as_json=as_json)
    if as_json:
        click.echo(found.model_dump_json())
    sys.exit(_exit_code(found))


@click.command(epilog=EXIT_CODES)
@click.argument("job_id")
@api_option
@json_option
@reports_errors
def cancel(job_id: str, url: str | None, as_json: bool) -> None:
    """Cancel a job; what is done stays."""
    found = _client(url).cancel(job_id)
    click.echo(found.model_dump_json() if as_json else describe(found))


@click.command(epilog=EXIT_CODES)
@api_option
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@json_option
@reports_errors
def jobs(url: str | None, limit: int, as_json: bool) -> None:
    """List the newest jobs."""
    found = _client(url).jobs(limit)
    if as_json:
        click.echo(json.dumps([job.model_dump(mode="json") for job in found]))
    for job in [] if as_json else found:
        click.echo(describe(job))


COMMANDS: tuple[click.Command, ...] = (submit, status, watch, fetch, cancel, jobs)


def _read_settings() -> Settings:
    try:
        return Settings.from_env(os.environ)
    except InvalidRequest as error:
        _stop(WRONG, error.reason)


def _client(url: str | None) -> Client:
    from maskmill.client.client import Client

    if url is None:
        settings = _read_settings()
        host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
        url = f"http://{host}:{settings.api_port}"
    return Client(url)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _mb(count: int) -> int:
    return round(count / 1e6)


def _say(as_json: bool, line: str) -> None:
    if not as_json:
        click.echo(line, err=True)


def _stop(code: int, reason: str) -> NoReturn:
    click.echo(f"Error: {reason}", err=True)
    sys.exit(code)


def _finish(client: Client, job_id: str, out: Path | None, *, as_json: bool) -> NoReturn:
    """Wait, fetch, tell, and leave with the job's exit code."""
    try:
        found = _wait(client, job_id, as_json=as_json)
        if out:
            _fetch(client, found, out, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(f"\nThe job goes on. Watch it with: maskmill watch {job_id}", err=True)
        sys.exit(INTERRUPTED)
    if as_json:
        click.echo(found.model_dump_json())
    else:
        click.echo(describe(found))
        _show_failures(client, found)
    sys.exit(_exit_code(found))


def _wait(client: Client, job_id: str, *, as_json: bool) -> JobStatus:
    with bar("items", hidden=as_json) as advance:
        return client.wait(job_id, lambda seen: advance(seen.counts.done, seen.counts.total, pace(seen)))


def _fetch(client: Client, found: JobStatus, folder: Path, *, as_json: bool) -> None:
    with bar("files", hidden=as_json) as advance:
        fetched = client.fetch(found.id, folder, lambda seen: advance(seen.downloaded + seen.present, None, ""))
    _say(as_json, f"{fetched.downloaded} files downloaded to {folder}, {fetched.present} were there already.")


def _show_failures(client: Client, status: JobStatus) -> None:
    failed = client.items(status.id, "failed") if status.counts.failed else iter(())
    for _, item in zip(range(SHOWN_FAILURES), failed, strict=False):
        page = f" page {item['page_index'] + 1}" if item["page_index"] is not None else ""
        click.echo(f"  {item['input_path']}{page}: {(item['error'] or {}).get('reason')}", err=True)
    if status.counts.failed > SHOWN_FAILURES:
        click.echo(f"  and {status.counts.failed - SHOWN_FAILURES} more", err=True)


def _exit_code(status: JobStatus) -> int:
    if status.state in ("failed", "cancelled"):
        return JOB_FAILED
    return SOME_FAILED if status.counts.failed else 0
