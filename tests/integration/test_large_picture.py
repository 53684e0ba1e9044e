"""The largest picture stays within memory, whatever the graph would like to enlarge."""

from __future__ import annotations

import re
import subprocess
import sys

MOST_BYTES = 1.5e9


def test_a_108_megapixel_picture_through_mask_rt_detrs_graph_stays_under_one_and_a_half_gigabytes() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.large_picture"], capture_output=True, text=True, check=True
    ).stdout
    assert "20 instances" in said
    assert 0 < max(int(peak) << 20 for peak in re.findall(r"(\d+) MiB peak", said)) < MOST_BYTES
