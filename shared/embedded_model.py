"""What is said where only the embedded model runs, and someone may wonder that it finds nothing on a photograph."""

from __future__ import annotations

EMBEDDED = "shapes"
EVERYDAY = "maskrcnn-12-int8"


def drawn_shapes_only(use: str) -> str:
    """One line: what the embedded model finds, and how to have another; `use` is the command that takes its name."""
    return (
        f"The embedded model {EMBEDDED} finds drawn shapes only; "
        f"for everyday objects: maskmill models pull {EVERYDAY}, then {use} {EVERYDAY}"
    )
