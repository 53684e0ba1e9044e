"""Pull: download a model of the catalogue, verify it, and only then let it be a model."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from maskmill.shared.egress.http import Egress
from maskmill.shared.egress.partial import Partial
from maskmill.shared.errors import CannotStart, InputError, MaskmillError, ModelInvalid, Unavailable, UrlUnreachable
from maskmill.worker.models.library.catalogue import CatalogueModel
from maskmill.worker.models.package import MANIFEST, WEIGHTS

Report = Callable[[int], None]
"""Is told how many bytes there are."""


def pull(name: str, entry: CatalogueModel, models_dir: Path, egress: Egress, report: Report) -> Path:
    """The model's folder, `models_dir`/`name`, downloaded if it is not there yet.

    What has come of an unfinished download stays in a hidden folder beside it, and the next call goes on from there.
    Raises ModelInvalid where no mirror has the file that the catalogue means, or another model has that name;
    UrlUnreachable where a mirror may have it later; CannotStart while another process pulls it, or where the folder
    does not take it.
    """
    target, folder = models_dir / name, models_dir / f".{name}.part"
    if target.exists():
        return _same(target, entry)
    with _place(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, name):
            partial = Partial(folder / WEIGHTS[0], folder / "version.json")
            try:
                # Another process may have finished it just before this one had the lock.
                if not target.exists():
                    _fetch(name, entry, partial, egress, report)
                    _finish(folder, target, partial, entry)
            finally:
                if folder.exists() and not partial.size:
                    shutil.rmtree(folder)
    return target


def _fetch(name: str, entry: CatalogueModel, partial: Partial, egress: Egress, report: Report) -> None:
    problems: list[MaskmillError] = []
    for url in entry.urls:
        try:
            _fetch_from(url, entry, partial, egress, report)
        except (InputError, Unavailable, ModelInvalid) as error:
            problems.append(error)
        else:
            return
    said = f"{name}: no mirror had it: {'; '.join(problem.reason for problem in problems)}"
    if any(isinstance(problem, Unavailable) for problem in problems):
        raise UrlUnreachable(said)
    partial.drop()
    raise ModelInvalid(said)


def _fetch_from(url: str, entry: CatalogueModel, partial: Partial, egress: Egress, report: Report) -> None:
    """The verified file; if a beginning from elsewhere makes it wrong, once more from the start."""
    resumed = bool(partial.size)
    _complete(url, entry, partial, egress, report)
    try:
        _verify(url, entry, partial)
    except ModelInvalid:
        if not resumed:
            raise
        _complete(url, entry, partial, egress, report)
        _verify(url, entry, partial)


def _complete(url: str, entry: CatalogueModel, partial: Partial, egress: Egress, report: Report) -> None:
    """All bytes, taken up again as long as each attempt brings some."""
    while partial.size < entry.size:
        before = partial.size
        try:
            egress.resume(url, partial, entry.size, report)
        except Unavailable:
            if partial.size <= before:
                raise


def _verify(url: str, entry: CatalogueModel, partial: Partial) -> None:
    """Raises ModelInvalid, and deletes the file, where it is not the one that the catalogue means."""
    with partial.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != entry.sha256:
        partial.drop()
        raise ModelInvalid(f"{url}: sha256 expected {entry.sha256}, got {digest}")


def _finish(folder: Path, target: Path, partial: Partial, entry: CatalogueModel) -> None:
    """Make the folder a model's, and give it its name last."""
    manifest = entry.manifest().model_dump(mode="json", exclude_unset=True)
    (folder / MANIFEST).write_text(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True), encoding="utf-8")
    partial.note.unlink(missing_ok=True)
    folder.rename(target)


def _same(target: Path, entry: CatalogueModel) -> Path:
    weights = target / WEIGHTS[0]
    if weights.is_file() and weights.stat().st_size == entry.size:
        with weights.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256:
                return target
    raise ModelInvalid(f"{target}: another model is there under that name; move it away first")


@contextlib.contextmanager
def _place(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotStart(f"{folder}: {error.strerror}; MASKMILL_MODELS_DIR names another place") from None


@contextlib.contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise CannotStart(f"{name}: another process is pulling it") from None
    try:
        yield
    finally:
        os.close(handle)
