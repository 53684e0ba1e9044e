"""What the files of an archive are called: a name is a label, and no place that anything is written to.

a/cat.jpg        a/cat.jpg
../a/cat.jpg     a/cat.jpg        what leads out of the archive is dropped, as are drives and what is no text
a/cat.jpg        a/%-2/cat.jpg    the second of that name: `unzip` would give the last alone
"""

from __future__ import annotations

import hashlib
import re

from maskmill.shared.folder_inputs import ARCHIVE_SUFFIXES, CLAIMS, Reason, is_litter, suffix_of
from maskmill.worker.sources.artifact_names import clean, safe_path

# The archive's own path, a job's id and the storage's prefix have to find room in a key too.
MOST_BYTES, SHOWN_CHARACTERS = 500, 500
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
DRIVE = re.compile(r"^[A-Za-z]:")


def parts_of(name: str) -> list[str]:
    """The folders and the file that a name leads to, without what leads out of the archive; perhaps none."""
    path = DRIVE.sub("", CONTROL.sub("", clean(name)).replace("\\", "/"))
    return [part for part in path.split("/") if part not in ("", ".", "..")]


def label_of(name: str) -> str:
    """The name as it is shown: in one line, a long one without its middle."""
    text, half = CONTROL.sub("\ufffd", clean(name.replace("\0", "\ufffd"))), SHOWN_CHARACTERS // 2
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:half]}…{text[-half:]}"


def why_not(name: str) -> Reason | None:
    """Why a file of that name is no input, by the rule for folders, or None.

    `__name__` is what data sets in tars keep for themselves: webdataset skips it as well.
    """
    parts = parts_of(name)
    if any(map(is_litter, parts)):
        return Reason.LITTER
    if any(part.startswith("__") and part.endswith("__") for part in parts):
        return Reason.METADATA
    if any(part.startswith(".") for part in parts):
        return Reason.HIDDEN
    return None if parts and suffix_of(parts[-1]) in CLAIMS else Reason.OTHER


def is_archive(name: str) -> bool:
    """Whether the name claims to be an archive's."""
    return suffix_of(name) in ARCHIVE_SUFFIXES


class MemberNames:
    """Gives every file of one archive a path of its own, the same ones whenever it is read."""

    def __init__(self) -> None:
        # By a hash: the names themselves would be most of what is held of an archive.
        self._times: dict[bytes, int] = {}

    def give(self, name: str) -> str:
        """The path below the archive's own for the next file of that name; every part is one that any store takes."""
        path = _safe(name)
        digest = hashlib.blake2b(path.encode(), digest_size=12).digest()
        times = self._times[digest] = self._times.get(digest, 0) + 1
        if times == 1:
            return path
        folder, slash, base = path.rpartition("/")
        # No other part begins like that: `safe_path` writes a "%" at a part's beginning as "%25".
        return f"{folder}{slash}%-{times}/{base}"


def _safe(name: str) -> str:
    path = safe_path("/".join(parts_of(name)))
    data = path.encode()
    if len(data) <= MOST_BYTES:
        return path
    return f"%~{hashlib.sha256(data).hexdigest()[:16]}/{path.rpartition('/')[2]}"
