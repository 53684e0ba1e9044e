"""Why a picture cannot be read, in this project's own words; what a library said stays the error's cause."""

from __future__ import annotations

from maskmill.shared.errors import TruncatedInput, UnreadableInput
from maskmill.shared.formats import LABELS


def truncated(name: str) -> TruncatedInput:
    """The reason for a file of format `name` that lacks its end."""
    return TruncatedInput(f"the {LABELS[name]} ends before its picture does; send the whole file")


def damaged(name: str, what: str) -> UnreadableInput:
    """The reason for a file of format `name` whose bytes are wrong."""
    return UnreadableInput(f"the {LABELS[name]} is damaged: {what}; send an undamaged copy")
