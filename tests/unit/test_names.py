"""Artifact names: a pure function of an input's own path, and none twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmill.worker.sources.artifact_names import MOST_BYTES, Names, artifact_name, seed_name, stem

# Letters that meet in one another's names: dots, digits behind a "_", ".jpg" in its variants, names that are cut.
PIECES = st.sampled_from(["a", "b", ".", "_", "0", "1", "12", ".jpg", ".JPG", ".jpeg", ".png", ".pdf", "~", "ä", "\n"])
SHORT = st.lists(PIECES, min_size=1, max_size=6).map("".join)
LONG = st.builds(lambda head, tail, times: head * times + tail, st.sampled_from("aä"), SHORT, st.integers(90, 220))
PATHS = st.lists(SHORT | LONG, min_size=1, max_size=2).map("/".join)
INPUTS = st.tuples(PATHS, st.none() | st.integers(0, 12))


@pytest.mark.parametrize(
    ("path", "page", "name"),
    [
        ("cat.jpg", None, "cat"),
        ("cats/1.jpg", None, "cats/1"),
        ("cat.png", None, "cat.png"),
        ("cat.JPG", None, "cat.JPG"),
        ("cat.v2.jpg", None, "cat.v2.jpg"),
        ("scan.pdf", 0, "scan.pdf_0"),
        ("deep/scan.pdf", 12, "deep/scan.pdf_12"),
        ("scan.jpg", 3, "scan.jpg_3"),
        ("cat", None, "cat."),
        ("cat", 0, "cat._0"),
        ("cat.", None, "cat.."),
        ("scan.pdf_0", None, "scan.pdf_0."),
        (".jpg", None, ".jpg"),
    ],
)
def test_a_name_keeps_its_path_and_loses_jpg_alone(path: str, page: int | None, name: str) -> None:
    assert artifact_name(path, page) == name


@given(st.sets(INPUTS, max_size=60))
def test_no_two_inputs_or_pages_share_a_name(inputs: set[tuple[str, int | None]]) -> None:
    names = {artifact_name(path, page) for path, page in inputs}
    assert len(names) == len(inputs)


@given(INPUTS)
def test_an_input_that_is_called_as_anothers_results_does_not_meet_them(
    given_input: tuple[str, int | None],
) -> None:
    name = artifact_name(*given_input)
    for suffix in ("", ".", ".jpg", "_0"):
        again = f"{name}{suffix}", None
        assert again == given_input or artifact_name(*again) != name


@given(PATHS, st.none() | st.integers(0, 99_999))
def test_every_store_takes_the_name_and_it_stays_in_its_folder(path: str, page: int | None) -> None:
    folder, _, base = artifact_name(path, page).rpartition("/")
    assert folder == path.rpartition("/")[0]
    assert len(f"{base}_res.json".encode()) <= 255


@pytest.mark.parametrize("suffix", [".jpg", ".สวัสดีครับ", "." + "🙂" * 15, "." * 30, ""])
def test_a_long_name_of_any_suffix_fits(suffix: str) -> None:
    name = artifact_name("🙂" * 60 + suffix, 99_999)
    assert len(f"{name}_res.json".encode()) <= 255


def test_long_names_that_begin_alike_are_apart() -> None:
    first, second = (artifact_name("a" * 300 + end + ".jpg") for end in "xy")
    assert first != second
    assert first.startswith("a" * 100)


def test_paddlexs_name_is_the_file_names_without_its_last_suffix_and_the_page() -> None:
    named = [("x/My Pic.v2.jpeg", None), (".hidden", None), ("plain", None), ("scan.pdf", 0)]
    assert [seed_name(*each) for each in named] == ["My Pic.v2", ".hidden", "plain", "scan_0"]
    assert seed_name("https://example.org/a/cat.png?size=1#top") == "cat"


def test_a_stem_that_no_store_takes_is_cut() -> None:
    assert len(stem("ä" * 300 + ".jpg").encode()) <= MOST_BYTES


@given(st.lists(st.sampled_from(["a", "b", "a-2", "a-2-2", "a-3"]), max_size=12))
def test_no_two_claims_share_a_name(wanted: list[str]) -> None:
    names, again = Names(), Names()
    claimed = [names.give(one, ".jpg") for one in wanted]
    assert len(set(claimed)) == len(wanted)
    assert claimed == [again.give(one, ".jpg") for one in wanted]
    assert all(name.startswith(one) and name.endswith(".jpg") for name, one in zip(claimed, wanted, strict=True))


def test_the_first_of_a_name_keeps_it() -> None:
    names = Names(["c"])
    assert [names.give(wanted) for wanted in ("a", "b", "a", "a", "c")] == ["a", "b", "a-2", "a-3", "c-2"]
