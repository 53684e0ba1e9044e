"""Forms are read and written piece by piece."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmill.api.submission.multipart import parts
from maskmill.client.multipart_form import Attachment, Form
from maskmill.shared.errors import BodyTooLarge, RequestError

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
FILES = st.lists(st.tuples(NAMES, st.binary(max_size=200)), max_size=4)


def read(body: bytes, boundary: str = "x") -> list[tuple[str, str | None, bytes]]:
    return [(part.name, part.filename, b"".join(part.pieces)) for part in parts(io.BytesIO(body), boundary)]


@given(FILES)
def test_what_the_client_writes_the_server_reads(files: list[tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        attachments = []
        for number, (name, data) in enumerate(files):
            path = Path(folder) / str(number)
            path.write_bytes(data)
            attachments.append(Attachment(name, path))
        form = Form({"sources": []}, attachments)
        body = b"".join(form)
        assert len(body) == len(form)
        job, *found = read(body, form.content_type.split("boundary=")[1])
    assert job == ("job", None, b'{"sources": []}')
    assert [data for _, _, data in found] == [data for _, data in files]
    assert [name for _, name, _ in found] == [name for name, _ in files]


def test_data_that_looks_almost_like_a_boundary_is_data() -> None:
    data = b"\r\n--\r\n--y\r\n-" + b"\n" * 70_000
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n' + data + b"\r\n--x--\r\n"
    assert read(body) == [("f", "a", data)]


@pytest.mark.parametrize("cut", [0, 1, 10, 40, -14, -10, -5])
def test_a_form_that_ends_early_is_refused(cut: int) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nhello\r\n--x--\r\n'
    with pytest.raises(RequestError):
        read(body[:cut])


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(BodyTooLarge):
        read(b"--x\r\nContent-Disposition: " + b"a" * (2 << 20))
