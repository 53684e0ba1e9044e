"""Which files a submission sends, and the relative names they are sent under, which their results keep."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from maskmill.client.errors import ClientError
from maskmill.client.multipart_form import Attachment
from maskmill.shared.folder_inputs import LeftOut, Reason, inputs_below

URL_TYPES = {"http": "url", "https": "url", "s3": "s3"}


def urls_and_paths(inputs: Iterable[str | Path]) -> tuple[list[dict[str, str]], list[Path]]:
    """The http(s) and s3 URLs as a request's sources, and everything else as paths."""
    urls: list[dict[str, str]] = []
    paths: list[Path] = []
    for given in inputs:
        scheme, mark, _ = str(given).partition("://")
        if isinstance(given, str) and mark and scheme.lower() in URL_TYPES:
            urls.append({"type": URL_TYPES[scheme.lower()], "url": given})
        else:
            paths.append(Path(given))
    return urls, paths


def manifest_urls_and_files(manifests: Iterable[str | Path]) -> tuple[list[dict[str, str]], list[Attachment]]:
    """The manifests behind http(s) and s3 URLs as a request's sources, and the others as files to send.

    Raises ClientError for a path that leads to no file that can be read.
    """
    urls, paths = urls_and_paths(manifests)
    return [{**url, "type": "manifest"} for url in urls], [_attachment(path, path.name, "manifest") for path in paths]


def attachments(paths: Sequence[Path], *, alone: bool) -> Iterator[Attachment]:
    """The files, and the inputs of the folders with all below them; what a folder's rule leaves out is logged.

    Where a folder is the only input (`alone`), names begin inside it; else with the folder's own name. Raises
    ClientError for a path that leads nowhere, for a file that cannot be read and for a folder without inputs.
    """
    for path, name in zip(paths, sent_names(paths), strict=True):
        if path.is_dir():
            yield from _of_folder(path, "" if alone else f"{name}/")
        else:
            yield _attachment(path, name)


def _attachment(path: Path, name: str, part: str = "files") -> Attachment:
    if not path.is_file():
        raise ClientError(f"there is no file or folder {path}", code="input_not_found")
    if not os.access(path, os.R_OK):
        raise ClientError(f"{path} cannot be read: permission denied", code="input_not_found")
    return Attachment(name, str(path), part)


def sent_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many before it as it takes to tell apart those that end alike."""
    # Not resolve(): a link is sent under its own name.
    parts = [Path(os.path.abspath(path)).parts[1:] for path in paths]  # noqa: PTH100
    lengths = dict.fromkeys(parts, 1)
    while True:
        names = {one: "/".join(one[-length:]) for one, length in lengths.items()}
        times = Counter(names.values())
        alike = [one for one, name in names.items() if times[name] > 1 and lengths[one] < len(one)]
        if not alike:
            return [names[one] for one in parts]
        lengths |= {one: lengths[one] + 1 for one in alike}


def _of_folder(folder: Path, prefix: str) -> Iterator[Attachment]:
    left_out = LeftOut()
    found = False
    try:
        for inside in inputs_below(folder, left_out):
            path = os.path.join(folder, inside)  # noqa: PTH118 - a Path for each of a million files is heavy
            if os.access(path, os.R_OK):
                found = True
                yield Attachment(f"{prefix}{inside}", path)
            else:
                left_out.add(Reason.UNREADABLE, inside)
    except OSError as error:
        raise ClientError(f"{folder} cannot be read: {error.strerror or error}", code="input_not_found") from None
    if not found:
        why = f"; left out: {left_out}" if left_out else ""
        raise ClientError(f"there is no image and no PDF in {folder}{why}", code="input_not_found")
    left_out.warn(folder)
