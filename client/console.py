"""What the commands show: a progress bar, and a job in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from maskmill.shared.jobs.records import JobStatus

Advance = Callable[[int, int | None, str], None]


@contextmanager
def bar(unit: str, *, hidden: bool) -> Iterator[Advance]:
    """A bar on stderr, moved by calling it with what is done, the total and a note; none where nobody looks."""
    if hidden or not sys.stderr.isatty():
        yield _no_bar
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total, note: progress.update(task, completed=done, total=total, description=note)


def pace(status: JobStatus) -> str:
    """The job's state, items a second, and time left."""
    parts: list[str] = [status.state]
    if status.rate:
        parts.append(f"{status.rate:.1f}/s")
    if status.eta_seconds is not None:
        parts.append(f"{duration(status.eta_seconds)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """So many seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def status_line(status: JobStatus) -> str:
    """The job in one line."""
    counts = status.counts
    total = "?" if counts.total is None else counts.total
    name = f" ({status.name})" if status.name else ""
    line = f"{status.id}{name}: {pace(status)}; {counts.succeeded} of {total} succeeded, {counts.failed} failed"
    line += f", {counts.skipped} skipped" if counts.skipped else ""
    line += f"; waits: {status.trouble}" if status.trouble else ""
    line += f"; kept until {_day(status.expires_at)}" if status.expires_at else ""
    return line + (f"; {status.error.reason}" if status.error else "")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _no_bar(_done: int, _total: int | None, _note: str) -> None:
    """Show nothing."""
