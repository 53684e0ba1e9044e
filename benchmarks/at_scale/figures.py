"""Figures on the screen: what was measured, and what that makes for a million items."""

from __future__ import annotations

from collections import Counter

from benchmarks.at_scale.process import Report

MILLION = 1_000_000


class Figures:
    """The figures of one run over `count` items. What grows with the items is given for a million as well."""

    def __init__(self, title: str, count: int) -> None:
        self._count = count
        print(f"\n## {title}\n\n{'':46}{'measured':>16}{'per 1000 items':>16}{'per million':>16}", flush=True)

    def plain(self, label: str, value: float, digits: int = 0) -> None:
        """A figure that does not grow with the items."""
        print(f"{label:46}{value:16,.{digits}f}", flush=True)

    def growing(self, label: str, value: float, digits: int = 0) -> None:
        """A figure that grows with the items, as far as is known in proportion."""
        each = value / self._count
        print(f"{label:46}{value:16,.{digits}f}{each * 1000:16,.2f}{each * MILLION:16,.{digits}f}", flush=True)

    def rate(self, label: str, seconds: float) -> None:
        """Seconds that all items took, and how many that is in a second."""
        self.plain(f"{label}, items/s", self._count / seconds)
        self.growing(f"{label}, s", seconds, 1)

    def role(self, label: str, report: Report) -> None:
        """What the process of a role took."""
        self.growing(f"{label}, CPU s", report.cpu, 1)
        self.plain(f"{label}, MB resident at its beginning", report.resident)
        self.plain(f"{label}, MB resident at its peak", report.peak)
        self.calls(label, report.calls)

    def calls(self, label: str, calls: Counter[str]) -> None:
        """Storage calls by kind."""
        for kind, number in calls.most_common():
            self.growing(f"{label}, storage {kind}", number)

    def commands(self, label: str, commands: Counter[str]) -> None:
        """Redis's commands in all, and the most frequent by name."""
        self.growing(f"{label}, in all", commands.total())
        for name, number in commands.most_common(8):
            self.growing(f"  {name}", number)
