"""What becomes of archives, sound and hostile: which files are inputs, what they are called, what fails and how."""

from __future__ import annotations

import gzip
import io
import random
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import InputError, ObjectChanged
from maskmill.shared.folder_inputs import LeftOut, Reason, inputs_below
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Entry, EntryForm, Expansion, Item, new_job_id
from maskmill.shared.jobs.sources import FileBytes, Location, StoredBytes
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
from maskmill.shared.storage.protocol import check_key
from maskmill.worker.sources.fetch import BLOCK, Fetcher
from maskmill.worker.sources.listing import form_of
from maskmill.worker.sources.pages import Expander, items_of, parts_of
from maskmill.worker.sources.range_reader import RangeReader
from tests.archives import MAKERS, Files, gz_of, header, in_directory, patched, tar_of, zip_of
from tests.services.watched_storage import WatchedStorage

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 3 + b"\xff\xd9"
EVERY = pytest.mark.parametrize("name", MAKERS)


def pdf_of(pages: int, form: str = "PDF") -> bytes:
    document = io.BytesIO()
    first, *others = [Image.new("RGB", (80, 60), "white") for _ in range(pages)]
    first.save(document, form, save_all=True, append_images=others)
    return document.getvalue()


class Looked:
    """What an archive was found to be."""

    def __init__(self, entry: Entry, expansion: Expansion, files: JobFiles, fetcher: Fetcher) -> None:
        self.expansion, self._fetcher = expansion, fetcher
        parts = parts_of(entry, expansion, files)
        self.items: list[Item] = [item for _, part, of_part in parts for item in items_of(part, of_part)]

    @property
    def failure(self) -> str | None:
        """The code of the archive's own failure."""
        return self.expansion.failure.code if self.expansion.failure else None

    @property
    def left_out(self) -> dict[Reason, int]:
        told = self.expansion.left_out or LeftOut()
        return {reason: alike.count for reason, alike in told.root.items()}

    def shown(self) -> list[str]:
        return [item.input_path for item in self.items]

    def became(self) -> dict[str, str | bytes]:
        """The bytes of each item by its name, or the code of its failure."""
        return {item.name: item.failure.code if item.failure else self.bytes_of(item) for item in self.items}

    def bytes_of(self, item: Item) -> bytes | str:
        try:
            return self._fetcher.fetch(item.location)
        except InputError as error:
            return error.code


class Looker:
    """Looks into archives as a worker does."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.settings = Settings(storage_url=f"file://{top}/storage", local_roots=(top,))
        self.storage = WatchedStorage(open_storage(self.settings))

    def __call__(self, name: str, data: bytes, *, form: EntryForm | None = None, **settings: int) -> Looked:
        self.storage.put(name, data)
        return self.at(StoredBytes(key=name), name, form, **settings)

    def at(self, location: Location, name: str, form: EntryForm | None = None, **settings: int) -> Looked:
        chosen = self.settings.model_copy(update=settings)
        fetcher = Fetcher(chosen, self.storage, Egress(chosen))
        expander = Expander(chosen, self.storage, fetcher)
        entry = Entry(source=0, position="", input_path=name, name=name, location=location, form=form or form_of(name))
        job_id = new_job_id()
        found = expander.look_into(job_id, 0, entry, None)
        return Looked(entry, found, JobFiles(self.storage, job_id), fetcher)


@pytest.fixture
def look(tmp_path: Path) -> Looker:
    return Looker(tmp_path)


# Which files of an archive are inputs


@EVERY
def test_the_pictures_of_an_archive_are_items_and_the_rest_is_counted(look: Looker, name: str) -> None:
    files = {
        "b/2.jpg": JPEG,
        "./a.jpg": JPEG + b"a",
        "empty.png": b"",
        "notes.txt": b"x",
        "README": b"x",
        "000.cls": b"3",
        ".hidden.jpg": JPEG,
        "deep/.cache/x.jpg": JPEG,
        "__MACOSX/._a.jpg": JPEG,
        "__meta__/key.jpg": JPEG,
    }
    found = look(name, MAKERS[name](files))
    assert found.became() == {f"{name}/b/2": JPEG, f"{name}/a": JPEG + b"a", f"{name}/empty.png": b""}
    assert found.shown() == [f"{name}!/b/2.jpg", f"{name}!/./a.jpg", f"{name}!/empty.png"]
    assert found.left_out == {Reason.OTHER: 3, Reason.HIDDEN: 2, Reason.LITTER: 1, Reason.METADATA: 1}
    assert found.expansion.left_out
    assert f"{name}!/notes.txt" in found.expansion.left_out.root[Reason.OTHER].names


@EVERY
def test_pages_inside_are_items_and_a_damaged_document_fails_alone(look: Looker, name: str) -> None:
    files = {"scan.pdf": pdf_of(3), "two.tif": pdf_of(2, "TIFF"), "one.tif": pdf_of(1, "TIFF"), "bad.pdf": b"%PDF-"}
    found = look(name, MAKERS[name](files))
    names = [item.name.removeprefix(f"{name}/") for item in found.items]
    assert names == ["scan.pdf_0", "scan.pdf_1", "scan.pdf_2", "two.tif_0", "two.tif_1", "one.tif", "bad.pdf"]
    assert [item.failure.code for item in found.items if item.failure] == ["unreadable"]
    assert found.bytes_of(found.items[1]) == files["scan.pdf"]


@EVERY
def test_an_archive_inside_an_archive_fails_alone(look: Looker, name: str) -> None:
    found = look(name, MAKERS[name]({"in.zip": zip_of({"a.jpg": JPEG}), "in.TAR.GZ": b"", "a.jpg": JPEG}))
    nested = {f"{name}/in.zip": "archive_nested", f"{name}/in.TAR.GZ": "archive_nested"}
    assert found.became() == {**nested, f"{name}/a": JPEG}


@EVERY
def test_an_archive_without_an_input_says_what_it_holds_instead(look: Looker, name: str) -> None:
    found = look(name, MAKERS[name]({"notes.txt": b"x"}))
    assert found.failure == "input_not_found"
    assert found.expansion.failure
    assert found.expansion.failure.reason.endswith(f"left out: no image and no PDF: 1 ({name}!/notes.txt)")
    assert len(found.items) == 1


def test_links_and_devices_of_a_tar_are_no_inputs(look: Looker) -> None:
    more = [
        header("link.jpg", tarfile.SYMTYPE, linkname="/etc/passwd"),
        header("hard.jpg", tarfile.LNKTYPE, linkname="a.jpg"),
        header("null.jpg", tarfile.CHRTYPE, devmajor=1, devminor=3),
        header("pipe.jpg", tarfile.FIFOTYPE),
        header("folder.jpg", tarfile.DIRTYPE),
    ]
    found = look("a.tar", tar_of({"a.jpg": JPEG}, more=more))
    assert list(found.became()) == ["a.tar/a"]
    assert found.left_out == {Reason.SPECIAL: 4}


def test_a_link_of_a_zip_is_no_input(look: Looker) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        link = zipfile.ZipInfo("link.jpg")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.mkdir("folder.jpg")
        archive.writestr("a.jpg", JPEG)
    found = look("a.zip", made.getvalue())
    assert (list(found.became()), found.left_out) == (["a.zip/a"], {Reason.SPECIAL: 1})


@pytest.mark.parametrize("data", [zip_of({"a.jpg": JPEG}), tar_of({"a.jpg": JPEG}), gz_of({"a.jpg": JPEG})])
def test_what_was_named_is_told_by_its_content(look: Looker, data: bytes) -> None:
    assert look("upload", data, form="archive").became() == {"upload/a": JPEG}
    assert look("upload.dat", data, form="unknown").became() == {"upload.dat/a": JPEG}


def test_archives_of_a_folder_are_inputs_by_their_names(tmp_path: Path) -> None:
    for name in ("a.zip", "b.TAR", "c.tar.gz", "d.tgz", "e.gz", "f.7z", "g.docx", "h"):
        (tmp_path / name).write_bytes(zip_of({"a.jpg": JPEG}))
    left_out = LeftOut()
    assert list(inputs_below(tmp_path, left_out)) == ["a.zip", "b.TAR", "c.tar.gz", "d.tgz"]
    assert left_out.root[Reason.OTHER].count == 4


def test_an_office_document_is_no_archive(look: Looker) -> None:
    for first in ("[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF"):
        found = look("a.docx", zip_of({first: b"x", "word/media/a.jpg": JPEG}), form="unknown")
        assert found.expansion.members is None
        assert [item.input_path for item in found.items] == ["a.docx"]


def test_a_document_at_the_beginning_does_not_make_the_archive_one(look: Looker) -> None:
    for name, data in {"a.tar": tar_of({"a.pdf": pdf_of(2)}), "a.zip": zip_of({"a.pdf": pdf_of(2)}, 0)}.items():
        assert [item.name for item in look(name, data).items] == [f"{name}/a.pdf_0", f"{name}/a.pdf_1"]


def test_a_picture_that_is_called_as_an_archive_is_a_picture(look: Looker) -> None:
    assert look("a.zip", JPEG).became() == {"a.zip": JPEG}
    assert look("empty.tar", b"").became() == {"empty.tar": b""}


# What they are called


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("../../etc/a.jpg", "etc/a"),
        ("/etc/a.jpg", "etc/a"),
        ("C:\\photos\\a.jpg", "photos/a"),
        ("..\\..\\a.jpg", "a"),
        ("a//./b/../c.jpg", "a/b/c"),
        ("%2E/a.jpg", "%252E/a"),
        ("new\nline.jpg", "newline"),
        ("猫/Ü.jpg", "猫/Ü"),
    ],
)
def test_a_name_leads_nowhere_else(look: Looker, name: str, called: str, tmp_path: Path) -> None:
    for archive, make in MAKERS.items():
        found = look(archive, make({name: JPEG}))
        assert found.became() == {f"{archive}/{called}": JPEG}
    assert {path.name for path in tmp_path.iterdir()} == {"storage"}


def test_nul_and_bytes_that_are_no_text_do_no_harm(look: Looker) -> None:
    data = zip_of({"a?b.jpg": JPEG}).replace(b"a?b.jpg", b"a\0b.jpg")
    assert look("a.zip", data).became() == {"a.zip/ab": JPEG}
    assert look("a.zip", data).shown() == ["a.zip!/a\ufffdb.jpg"]
    data = tar_of({"a\udcff.jpg": JPEG}, "w")
    assert look("a.tar", data).became() == {"a.tar/a\ufffd": JPEG}


@EVERY
def test_no_two_files_of_an_archive_share_a_name(look: Looker, name: str) -> None:
    random_ = random.Random(7)
    parts = ["a", "b.zip", "..", ".", "", "%", "%-2", "%2E", "A", "é", "e\u0301", "x" * 300, "C:", "a\\b"]
    given = [("/".join(random_.choices(parts, k=random_.randint(0, 4))) + "/a.jpg", JPEG) for _ in range(400)]
    given += [("deep/" * 400 + f"{number}.jpg", JPEG) for number in range(3)]
    found = look(name, MAKERS[name](given))
    names = [item.name for item in found.items]
    assert len(set(names)) == len(names) == len(given)
    assert names == [item.name for item in look(name, MAKERS[name](given)).items]
    for one in names:
        check_key(f"jobs/{new_job_id()}/artifacts/{one}_res.json")


def test_the_second_file_of_a_name_is_an_input_too(look: Looker) -> None:
    twice: Files = [("d/a.jpg", JPEG), ("d/a.jpg", JPEG + b"2"), ("d\\a.jpg", JPEG + b"3")]
    for name, make in MAKERS.items():
        assert look(name, make(twice)).became() == {
            f"{name}/d/a": JPEG,
            f"{name}/d/%-2/a": JPEG + b"2",
            f"{name}/d/%-3/a": JPEG + b"3",
        }


def test_names_of_zips_in_old_and_new_code(look: Looker) -> None:
    def named(raw: bytes, flags: int, extra: bytes = b"") -> dict[str, str | bytes]:
        data = zip_of({"????.jpg": JPEG}, zipfile.ZIP_STORED)
        at = in_directory(data, 0)
        directory = bytearray(data[at : data.index(b"PK\5\6")])
        directory[46 : 46 + 8] = raw
        struct.pack_into("<H", directory, 8, flags)
        struct.pack_into("<H", directory, 30, len(extra))
        end = patched(data[data.index(b"PK\5\6") :], 12, "<L", len(directory) + len(extra))
        return look("a.zip", data[:at] + bytes(directory) + extra + end).became()

    raw = "äöüß".encode("cp437") + b".jpg"
    assert named(raw, 0) == {"a.zip/äöüß": JPEG}
    assert named("üü.jpg".encode(), 1 << 11) == {"a.zip/üü": JPEG}
    assert named(b"\xff\xff\xff\xff.jpg", 1 << 11) == {"a.zip/\ufffd\ufffd\ufffd\ufffd": JPEG}
    path = b"\1" + struct.pack("<L", zlib.crc32(raw)) + "猫.jpg".encode()
    assert named(raw, 0, struct.pack("<HH", 0x7075, len(path)) + path) == {"a.zip/猫": JPEG}
    stale = b"\1" + struct.pack("<L", 1) + "猫.jpg".encode()
    assert named(raw, 0, struct.pack("<HH", 0x7075, len(stale)) + stale) == {"a.zip/äöüß": JPEG}
    assert named(raw, 0, b"\x01\x00\xff") == {"a.zip/äöüß": JPEG}


# Zips of every kind


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_every_method_that_is_read(look: Looker, method: int) -> None:
    files = {f"{number}.jpg": JPEG * number for number in range(5)}
    found = look("a.zip", zip_of(files, method, comment=b"PK\1\2 a comment" * 100))
    assert list(found.became().values()) == list(files.values())


def test_other_methods_fail_alone(look: Looker) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("lzma.jpg", JPEG, zipfile.ZIP_LZMA)
        archive.writestr("a.jpg", JPEG)
    data = made.getvalue()
    assert look("a.zip", data).became() == {"a.zip/lzma": "unsupported_method", "a.zip/a": JPEG}
    patch = patched(data, in_directory(data, 0) + 10, "<H", 9)
    found = look("a.zip", patch)
    assert found.items[0].failure
    assert "packed by Deflate64" in found.items[0].failure.reason


def test_what_is_encrypted_fails_alone(look: Looker) -> None:
    data = zip_of({"secret.jpg": JPEG, "a.jpg": JPEG})
    data = patched(data, in_directory(data, 0) + 8, "<H", 1)
    assert look("a.zip", data).became() == {"a.zip/secret": "encrypted", "a.zip/a": JPEG}


def test_zips_of_64_bits_and_behind_a_program(look: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    # So that a small one is written as those of more than 65,535 files and four gibibytes are.
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 300)
    files = {f"{number}.jpg": JPEG + bytes([number]) for number in range(9)}
    data = zip_of(files, zipfile.ZIP_STORED)
    assert b"PK\6\6" in data
    assert b"PK\6\7" in data
    assert list(look("a.zip", data).became().values()) == list(files.values())
    assert list(look("a.zip", b"#!/bin/sh\n" * 50 + data).became().values()) == list(files.values())


# What nobody should send


def test_bombs_are_not_unpacked(look: Looker) -> None:
    zeros = bytes(30_000_000)
    found = look("a.zip", zip_of({"bomb.bmp": zeros, "a.jpg": JPEG, "small.bmp": bytes(9_000_000)}))
    became = found.became()
    assert became == {"a.zip/bomb.bmp": "archive_bomb", "a.zip/a": JPEG, "a.zip/small.bmp": bytes(9_000_000)}
    assert look("a.tar.gz", gz_of({"a.jpg": JPEG, "notes.txt": zeros})).failure == "archive_bomb"
    assert look("a.tar.gz", gz_of({"a.jpg": JPEG}) + gzip.compress(zeros)).failure == "archive_bomb"


@EVERY
def test_an_archive_has_its_limits(look: Looker, name: str) -> None:
    data = MAKERS[name]({f"{number}.jpg": random.Random(number).randbytes(1000) for number in range(5)})
    assert look(name, data, max_members=4).failure == "archive_too_large"
    assert look(name, data, max_members=5).failure is None
    assert look(name, data, max_archive_bytes=4999).failure == "archive_too_large"
    too_large = look(name, data, max_input_bytes=999)
    assert set(too_large.became().values()) == {"too_many_bytes"}


def test_files_of_a_zip_that_share_bytes_are_refused(look: Looker) -> None:
    data = zip_of({"a.jpg": JPEG, "b.jpg": JPEG, "c.jpg": JPEG}, zipfile.ZIP_STORED)
    second = struct.unpack_from("<L", data, in_directory(data, 1) + 42)[0]
    # The third is the second again; the first holds the others; the last reaches into the directory.
    for at, form, value in (
        (in_directory(data, 2) + 42, "<L", second),
        (in_directory(data, 0) + 20, "<L", second + 100),
        (in_directory(data, 2) + 20, "<L", len(JPEG) + 100),
    ):
        assert look("a.zip", patched(data, at, form, value)).failure == "archive_overlaps"
    # Only its own header says so: it fails alone.
    lies = patched(data, 28, "<H", 60)
    assert look("a.zip", lies).became() == {"a.zip/a": "archive_overlaps", "a.zip/b": JPEG, "a.zip/c": JPEG}


@EVERY
def test_what_is_cut_off_is_refused(look: Looker, name: str) -> None:
    files = {f"{number}.jpg": random.Random(number).randbytes(3000) for number in range(9)}
    data = MAKERS[name](files)
    for cut in (len(data) // 3, len(data) // 2, 9 * len(data) // 10 - 1):
        if name == "a.tar" and cut > 9 * 3584:
            # Behind its last file a tar has nothing but zeros.
            continue
        found = look(name, data[:cut])
        assert found.failure == "archive_truncated", cut
        assert len(found.items) == 1


def test_what_is_damaged_is_refused(look: Looker) -> None:
    files = {f"{number}.jpg": random.Random(number).randbytes(3000) for number in range(9)}
    whole_zip, whole_tar, whole_gz = zip_of(files), tar_of(files), gz_of(files)
    directory = in_directory(whole_zip, 4)
    damaged = {
        "directory.zip": whole_zip[:directory] + b"XX" + whole_zip[directory + 2 :],
        "size.zip": patched(whole_zip, len(whole_zip) - 10, "<L", len(whole_zip)),
        "count.zip": patched(whole_zip, directory + 28, "<H", 60_000),
        "header.tar": patched(whole_tar, 3584 * 4 + 200, "<H", 7),
        "garbage.tar": b"\1" * 5000,
        "checksum.tgz": patched(whole_gz, len(whole_gz) - 8, "<L", 7),
        "bytes.tgz": patched(whole_gz, len(whole_gz) // 2, "<L", 7),
        "text.tar.gz": gzip.compress(b"no tar at all" * 100),
    }
    for name, data in damaged.items():
        assert look(name, data).failure == "archive_broken", name
    assert look("garbage.zip", b"no zip at all").failure == "archive_truncated"


def test_a_file_of_a_zip_that_is_not_as_announced_fails_alone(look: Looker) -> None:
    data = zip_of({"a.jpg": JPEG * 5, "b.jpg": JPEG})
    at = in_directory(data, 0)
    for place, value in ((16, 7), (24, len(JPEG)), (24, len(JPEG) * 9), (20, 10), (10, 0), (10, 12)):
        form = "<H" if place == 10 else "<L"
        found = look("a.zip", patched(data, at + place, form, value))
        assert found.became() == {"a.zip/a": "member_broken", "a.zip/b": JPEG}, place
    for wrong in (b"XX", b"\0"):
        assert look("a.zip", wrong + data[len(wrong) :]).became()["a.zip/a"] == "member_broken"


def test_a_file_that_is_larger_packed_is_not_read_either(look: Looker) -> None:
    data = zip_of({"a.jpg": random.Random(1).randbytes(5000), "b.jpg": JPEG})
    lies = patched(data, in_directory(data, 0) + 24, "<L", 100)
    found = look("a.zip", lies, max_input_bytes=4000)
    assert found.became() == {"a.zip/a": "too_many_bytes", "a.zip/b": JPEG}


def test_tars_that_lead_astray_are_refused(look: Looker) -> None:
    def pax(name: str, value: str) -> bytes:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
            one = header("a.jpg", tarfile.REGTYPE)
            one.pax_headers = {name: value}
            archive.addfile(one)
        return made.getvalue() + tar_of({"b.jpg": JPEG})

    def sized(size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
        block = bytearray(header("a.jpg", kind).tobuf())
        block[124:136] = size
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block) + tar_of({"b.jpg": JPEG})

    negative = b"\xff" * 10 + b"\xfa\0"
    for data in (
        sized(negative),
        sized(negative, tarfile.XHDTYPE),
        sized(b"77777777777\0", tarfile.XHDTYPE),
        sized(b"77777777777\0", tarfile.GNUTYPE_LONGNAME),
        pax("size", "-1024"),
        header("x", tarfile.XHDTYPE).tobuf() * 3000,
        sized(b"%011o\0" % 60_000, tarfile.XHDTYPE)[:512] + b"1" * 60_416 + tar_of({"b.jpg": JPEG}),
    ):
        found = look("a.tar", data)
        assert found.failure in ("archive_broken", "archive_truncated"), found.became()
    sparse = pax("GNU.sparse.map", "0,10,1000000000,10")
    assert look("a.tar", sparse).failure or "unsupported_method" in look("a.tar", sparse).became().values()


@EVERY
def test_whatever_the_bytes_are_only_inputs_fail(look: Looker, name: str) -> None:
    files = {"a.jpg": JPEG, "d/b.jpg": JPEG * 9, "scan.tif": pdf_of(2, "TIFF"), "notes.txt": b"x"}
    data, random_ = MAKERS[name](files), random.Random(11)
    for _ in range(150):
        spoiled = bytearray(data)
        for _ in range(random_.randint(1, 6)):
            at = random_.randrange(len(spoiled))
            spoiled[at] = random_.choice((0, 255, spoiled[at] ^ 1, random_.randrange(256)))
        found = look(name, bytes(spoiled[: random_.choice((len(spoiled), random_.randrange(1, len(spoiled))))]))
        for item in found.items:
            assert item.failure or isinstance(found.bytes_of(item), (bytes, str))


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_a_file_that_changes_after_its_listing_is_told(look: Looker, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(MAKERS[name]({"a.jpg": JPEG, "b.jpg": JPEG}))
    found = look.at(FileBytes(path=str(path)), name)
    assert set(found.became().values()) == {JPEG}
    path.write_bytes(MAKERS[name]({"a.jpg": JPEG + b"longer", "b.jpg": JPEG}))
    with pytest.raises(ObjectChanged):
        look.at(FileBytes(path=str(path)), name)._fetcher.fetch(found.items[0].location)


# How they are read


def test_neighbours_in_an_archive_are_read_together(look: Looker) -> None:
    files = {f"{number}.jpg": random.Random(number).randbytes(20_000) for number in range(200)}
    found = look("a.zip", zip_of(files, zipfile.ZIP_STORED))
    look.storage.calls.clear()
    assert list(found.became().values()) == list(files.values())
    assert len(look.storage.calls) <= 20_200 * 200 // BLOCK + 2


def test_a_large_tar_is_not_read_to_be_listed() -> None:
    large = bytes(6_000_000)
    data = tar_of({f"{number}.bmp": large for number in range(10)})
    asked: list[int] = []

    def read(start: int, count: int) -> bytes:
        asked.append(count)
        return data[start : start + count]

    reader = RangeReader(read, len(data))
    at = 0
    while header_ := reader.read(512).strip(b"\0"):
        assert header_
        at = reader.seek(at + 512 + 6_000_128)
    assert sum(asked) < 2_000_000


def test_a_range_reader_reads_what_is_there() -> None:
    random_ = random.Random(3)
    data = random_.randbytes(500_000)
    reader, plain = RangeReader(lambda at, count: data[at : at + count], len(data)), io.BytesIO(data)
    for _ in range(2000):
        at, count = random_.randrange(len(data) + 10), random_.randrange(1 << random_.randrange(17))
        if random_.random() < 0.5:
            assert reader.seek(at) == plain.seek(at)
        assert reader.read(count) == plain.read(count)
        assert min(reader.tell(), len(data)) == min(plain.tell(), len(data))


@EVERY
def test_an_archive_of_many_files_takes_little_memory(look: Looker, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    # Those of a tar.gz are stored one by one, each for good.
    count = 2000 if name == "a.tar.gz" else 20_000
    path.write_bytes(MAKERS[name]({f"train/n0144/n0144_{number:08d}.jpg": b"" for number in range(count)}))
    tracemalloc.start()
    try:
        entry = Entry(source=0, position="", input_path=name, name=name, location=FileBytes(path=str(path)))
        fetcher = Fetcher(look.settings, look.storage, Egress(look.settings))
        found = Expander(look.settings, look.storage, fetcher).look_into("0123456789", 0, entry, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.members
    assert found.members.count == count
    assert peak < 24 << 20


def test_looking_into_an_archive_can_be_given_up(look: Looker) -> None:
    class Enough(Exception):
        pass

    def alive() -> None:
        raise Enough

    for name, make in MAKERS.items():
        look.storage.put(name, make({"a.jpg": JPEG}))
        fetcher = Fetcher(look.settings, look.storage, Egress(look.settings))
        entry = Entry(source=0, position="", input_path=name, name=name, location=StoredBytes(key=name))
        with pytest.raises(Enough):
            Expander(look.settings, look.storage, fetcher).look_into("0123456789", 0, entry, None, alive)


def test_the_members_of_an_archive_are_read_from_any_place_on(look: Looker) -> None:
    found = look("a.zip", zip_of({f"{number}.jpg": b"" for number in range(2345)}))
    assert found.expansion.members
    files = JobFiles(look.storage, found.expansion.members.folder.split("/")[1])
    for first in (0, 1, 999, 1000, 1001, 2344, 2345):
        labels = [member.label for member in files.members(found.expansion.members, first)]
        assert labels == [f"{number}.jpg" for number in range(first, 2345)]


@EVERY
def test_an_outage_while_an_archive_is_looked_into_is_waited_out(look: Looker, name: str) -> None:
    tried: dict[str, int] = {}

    def fails_twice(method: str, key: str) -> bool:
        tried[key] = tried.get(key, 0) + (method == "put" and key.startswith("jobs/"))
        return 0 < tried[key] <= 2

    look.storage.fails_before = fails_twice
    files = {f"{number}.jpg": JPEG + bytes([number]) for number in range(3)}
    found = look(name, MAKERS[name](files))
    assert found.became() == {f"{name}/{number}": JPEG + bytes([number]) for number in range(3)}
    assert any("/members/" in key for key, times in tried.items() if times == 3)
