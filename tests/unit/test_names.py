"""Artifact names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from maskmill.worker.sources.artifact_names import MOST_BYTES, distinct, paged, stem


def test_a_stem_is_the_name_without_its_last_suffix() -> None:
    assert [stem(path) for path in ("x/My Pic.v2.jpeg", ".hidden", "plain")] == ["My Pic.v2", ".hidden", "plain"]


def test_a_name_that_no_store_takes_is_cut() -> None:
    assert len(stem("ä" * 300 + ".jpg").encode()) <= MOST_BYTES


@given(st.lists(st.sampled_from(["a", "b", "a-2", "a-2-2", "a-3"]), max_size=12))
def test_no_two_inputs_share_a_name(stems: list[str]) -> None:
    names = distinct(stems)
    assert len(set(names)) == len(stems)
    assert names == distinct(stems)
    assert all(name.startswith(wanted) for name, wanted in zip(names, stems, strict=True))


def test_the_first_of_a_name_keeps_it() -> None:
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a-2", "a-3"]


def test_a_page_never_meets_a_sibling() -> None:
    assert paged("scan", [0, 1], {"scan", "other"}) == "scan"
    assert paged("below/scan", [0, 1], {"scan", "scan_1"}) == "below/scan-pages"
