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

from maskmill.client.console import bar, pace, status_line
from maskmill.shared.embedded_model import EMBEDDED, drawn_shapes_only
from maskmill.shared.errors import InvalidRequest
from maskmill.shared.jobs.records import JobStatus
from maskmill.shared.option_flags import FLAGS, given_options, option_flags
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


inputs_argument = click.argument("inputs", nargs=-1, metavar="[FILES|FOLDERS|URLS|S3_URLS...]")
manifest_option = click.option(
    "--manifest",
    "manifests",
    multiple=True,
    metavar="FILE|URL",
    help="A file whose rows name inputs, here or behind an http(s) or s3:// URL; may be given several times.",
)
local_option = click.option(
    "--local", is_flag=True, help="Send the paths, not the files: the worker reads them from its own disk."
)


@click.command(epilog=EXIT_CODES)
@inputs_argument
@manifest_option
@api_option
@click.option("--wait", is_flag=True, help="Wait until the job is done.")
@out_option
@option_flags(*FLAGS)
@click.option("--name", help="A name for people.")
@click.option("--output", metavar="S3_URL", help="Where the artifacts go [default: beside the job].")
@click.option(
    "--keep-days",
    type=click.IntRange(min=0),
    help="Days the job is kept once it is over, 0 for ever [default: MASKMILL_KEEP_DAYS].",
)
@local_option
@json_option
@reports_errors
def submit(inputs: tuple[str, ...], url: str | None, name: str | None, local: bool, wait: bool, **rest: Any) -> None:
    """Submit files, folders, URLs and s3://bucket/a/**/*.jpg as one job."""
    out, as_json, manifests = rest["out"], rest["as_json"], rest["manifests"]
    _check_named(inputs, manifests)
    client = _client(url)
    with bar("MB sent", hidden=as_json) as advance:
        status = client.submit(
            inputs,
            manifests=manifests,
            options=given_options(rest),
            name=name,
            local=local,
            output=rest["output"],
            keep_days=rest["keep_days"],
            progress=lambda sent, total: advance(_mb(sent), _mb(total), ""),
        )
    if wait or out:
        _say(as_json, f"Job {status.id} is accepted.")
        _finish(client, status.id, out, as_json=as_json, model=rest.get("model"))
    elif as_json:
        click.echo(status.model_dump_json())
    else:
        click.echo(status.id)


@click.command(epilog=EXIT_CODES)
@inputs_argument
@manifest_option
@api_option
@option_flags(*FLAGS)
@local_option
@json_option
@reports_errors
def plan(inputs: tuple[str, ...], manifests: tuple[str, ...], url: str | None, local: bool, **rest: Any) -> None:
    """Count what a job would have, and run a sample of it: how many, how long, which requests; nothing else is done."""
    from maskmill.client.estimates import print_estimate

    _check_named(inputs, manifests)
    client, as_json = _client(url), rest["as_json"]
    job = client.submit(inputs, manifests=manifests, options=given_options(rest), local=local, dry_run=True)
    found = _wait(client, job.id, as_json=as_json)
    if found.state != "completed":
        _show(found, as_json=as_json)
        sys.exit(JOB_FAILED)
    estimate = client.estimate(job.id)
    if as_json:
        click.echo(json.dumps(estimate))
    else:
        print_estimate(estimate)


@click.command(epilog=EXIT_CODES)
@click.argument("job_id")
@api_option
@json_option
@reports_errors
def status(job_id: str, url: str | None, as_json: bool) -> None:
    """Show where a job stands."""
    client = _client(url)
    found = client.status(job_id)
    _show(found, as_json=as_json)
    if found.counts.failed:
        _say(as_json, f"  {found.counts.failed} failed: {_items_command(client, job_id)}")


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
@click.option(
    "--status",
    type=click.Choice(["failed", "succeeded", "skipped", "pending"]),
    help="Only those that ended so [default: all].",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many [default: all].")
@click.option("--csv", "form", flag_value="csv", help="Print CSV with a header.")
@click.option("--json", "form", flag_value="json", help="Print a JSON object on a line of its own for each.")
@reports_errors
def items(job_id: str, url: str | None, status: str | None, limit: int | None, form: Any) -> None:
    """List what became of each input of a job, and why it failed."""
    from maskmill.client.item_lists import print_items

    print_items(_client(url).items(job_id, status, limit=limit), form or "table")


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
    _show(_client(url).cancel(job_id), as_json=as_json)


@click.command(epilog=EXIT_CODES)
@click.argument("job_id")
@api_option
@json_option
@reports_errors
def pause(job_id: str, url: str | None, as_json: bool) -> None:
    """Hold a job where it is."""
    _show(_client(url).pause(job_id), as_json=as_json)


@click.command(epilog=EXIT_CODES)
@click.argument("job_id")
@api_option
@json_option
@reports_errors
def resume(job_id: str, url: str | None, as_json: bool) -> None:
    """Go on with a paused job."""
    _show(_client(url).resume(job_id), as_json=as_json)


@click.command(epilog=EXIT_CODES)
@click.argument("job_id")
@api_option
@click.option("--code", "codes", multiple=True, help="Only what failed with this code; may be repeated [default: all].")
@click.option("--wait", is_flag=True, help="Wait until the job is done.")
@out_option
@json_option
@reports_errors
def retry(job_id: str, url: str | None, codes: tuple[str, ...], wait: bool, **rest: Any) -> None:
    """Run again what failed in a job that is over; what comes of it takes the place of the failures."""
    client = _client(url)
    found = client.retry(job_id, codes or None)
    if wait or rest["out"]:
        _finish(client, job_id, rest["out"], as_json=rest["as_json"])
    _show(found, as_json=rest["as_json"])


@click.command(epilog=EXIT_CODES)
@click.argument("job_id")
@click.argument("priority", type=click.IntRange(0, 9))
@api_option
@json_option
@reports_errors
def priority(job_id: str, priority: int, url: str | None, as_json: bool) -> None:
    """Give a job another priority, 0 to 9; higher goes first."""
    _show(_client(url).set_priority(job_id, priority), as_json=as_json)


@click.command(epilog=EXIT_CODES)
@click.argument("job_id")
@api_option
@click.option("--output", is_flag=True, help="Delete also what it wrote to its own output.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@reports_errors
def delete(job_id: str, url: str | None, output: bool, yes: bool) -> None:
    """Delete a job that is over, with all that it stored."""
    client = _client(url)
    if not yes:
        found = client.status(job_id)
        click.echo(status_line(found), err=True)
        too = f", and its results in {found.output}" if output and found.output else ""
        _ask(f"Delete the job, with all that it stored here{too}?")
    client.delete(job_id, output=output)


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
        click.echo(status_line(job))


COMMANDS: tuple[click.Command, ...] = (
    submit,
    plan,
    status,
    watch,
    items,
    fetch,
    cancel,
    pause,
    resume,
    retry,
    priority,
    delete,
    jobs,
)


def _client(url: str | None) -> Client:
    from maskmill.client.client import Client

    return Client(url or _default_url())


def _check_named(inputs: tuple[str, ...], manifests: tuple[str, ...]) -> None:
    if not inputs and not manifests:
        raise click.UsageError("name inputs, or a --manifest whose rows name them")


def _default_url() -> str:
    try:
        return f"http://{Settings.from_env(os.environ).api_address}"
    except InvalidRequest as error:
        _stop(WRONG, error.reason)


def _mb(count: int) -> int:
    return round(count / 1e6)


def _say(as_json: bool, line: str) -> None:
    if not as_json:
        click.echo(line, err=True)


def _show(found: JobStatus, *, as_json: bool) -> None:
    click.echo(found.model_dump_json() if as_json else status_line(found))
    if found.left_out:
        _say(as_json, f"  left out: {found.left_out}")


def _stop(code: int, reason: str) -> NoReturn:
    click.echo(f"Error: {reason}", err=True)
    sys.exit(code)


def _ask(question: str) -> None:
    """Return where the answer is yes; leave where it is not, or nobody is there to ask."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        agreed = False
    if not agreed:
        _stop(WRONG, "nothing is deleted; --yes deletes without asking")


def _finish(client: Client, job_id: str, out: Path | None, *, as_json: bool, model: str | None = None) -> NoReturn:
    """Wait, fetch, tell, and leave with the job's exit code."""
    try:
        found = _wait(client, job_id, as_json=as_json)
        if out:
            _fetch(client, found, out, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(f"\nThe job goes on. Watch it with: maskmill watch {job_id}{_api_of(client)}", err=True)
        sys.exit(INTERRUPTED)
    _show(found, as_json=as_json)
    if not as_json:
        if found.model == EMBEDDED and not model:
            click.echo(drawn_shapes_only("maskmill up --models"), err=True)
        _show_failures(client, found)
    sys.exit(_exit_code(found))


def _wait(client: Client, job_id: str, *, as_json: bool) -> JobStatus:
    with bar("items", hidden=as_json) as advance:
        return client.wait(job_id, lambda seen: advance(seen.counts.done, seen.counts.total, pace(seen)))


def _fetch(client: Client, found: JobStatus, folder: Path, *, as_json: bool) -> None:
    with bar("files", hidden=as_json) as advance:
        fetched = client.fetch(found.id, folder, lambda seen: advance(seen.downloaded + seen.present, None, ""))
    _say(as_json, f"{fetched.downloaded} files downloaded to {folder}, {fetched.present} were there already.")


def _show_failures(client: Client, found: JobStatus) -> None:
    from maskmill.client.item_lists import failure_line

    failed = found.counts.failed
    # No more than there are, or the whole job would be searched for another one.
    for item in client.items(found.id, "failed", limit=min(failed, SHOWN_FAILURES)) if failed else ():
        click.echo(f"  {failure_line(item)}", err=True)
    if failed > SHOWN_FAILURES:
        click.echo(f"  and {failed - SHOWN_FAILURES} more: {_items_command(client, found.id)}", err=True)


def _items_command(client: Client, job_id: str) -> str:
    return f"maskmill items {job_id} --status failed{_api_of(client)}"


def _api_of(client: Client) -> str:
    """What a further command needs to find the same service."""
    return "" if client.base_url == _default_url() else f" --api {client.base_url}"


def _exit_code(found: JobStatus) -> int:
    if found.state in ("failed", "cancelled"):
        return JOB_FAILED
    return SOME_FAILED if found.counts.failed else 0
