"""What a job would be, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from maskmill.client.console import duration
from maskmill.shared.folder_inputs import LeftOut


def print_estimate(found: Mapping[str, Any]) -> None:
    """Print the estimate, a line a subject."""
    kinds = ("pictures", "paged", "unknown", "failing")
    counts = ", ".join(f"{found[kind]} {kind}" for kind in kinds if found[kind])
    click.echo(f"inputs     {found['inputs']} ({counts or 'none'})")
    if found["sized"]:
        click.echo(f"size       {found['size'] / 1e9:.3f} GB in {found['sized']} of them")
    if found["existing"]:
        click.echo(f"existing   {found['existing']} are done already")
    if left_out := LeftOut.model_validate(found["left_out"]):
        click.echo(f"left out   {left_out}")
    if found["rate"]:
        pace = f"at the {found['rate']:.1f}/s of a sample of {found['sample']}"
        click.echo(f"time       {duration(found['eta_seconds'])}, {pace}")
    asked = found["requests"]
    counts = f"{asked['list']} LIST, {asked['get']} GET, {asked['put']} PUT"
    click.echo(f"requests   {counts}: ${asked['price_usd']:.2f} by S3's list price")
