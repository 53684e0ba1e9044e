"""A PDF that a password opens, made by the standard security handler's first revision (ISO 32000-1, 7.6.3)."""

from __future__ import annotations

import hashlib

PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
PERMISSIONS = (-4).to_bytes(4, "little", signed=True)
IDENTIFIER = b"0123456789abcdef"
KEY_BYTES = 5


def encrypted_pdf(password: str, pages: int = 1) -> bytes:
    """A PDF of so many pages of 72 points, each with a red quarter, that `password` alone opens."""
    user = (password.encode("latin-1") + PADDING)[:32]
    owner_key = hashlib.md5((b"owner" + PADDING)[:32]).digest()[:KEY_BYTES]
    owner = _rc4(owner_key, user)
    key = hashlib.md5(user + owner + PERMISSIONS + IDENTIFIER).digest()[:KEY_BYTES]
    drawing = _rc4(_object_key(key, 3), b"1 0 0 rg 0 36 36 36 re f")
    numbers = range(5, 5 + pages)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {pages} /Kids [{' '.join(f'{number} 0 R' for number in numbers)}] >>".encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
        b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -4 >>"
        % (owner.hex().encode(), _rc4(key, PADDING).hex().encode()),
        *[b"<< /Type /Page /Parent 2 0 R /Contents 3 0 R /MediaBox [0 0 72 72] >>"] * pages,
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    size = len(objects) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n" % size + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    identifier = IDENTIFIER.hex().encode()
    trailer = b"trailer << /Root 1 0 R /Encrypt 4 0 R /ID [<%s> <%s>] /Size %d >>" % (identifier, identifier, size)
    return body + table + trailer + b"\nstartxref\n%d\n%%%%EOF\n" % len(body)


def _object_key(key: bytes, number: int) -> bytes:
    return hashlib.md5(key + number.to_bytes(3, "little") + bytes(2)).digest()[: KEY_BYTES + 5]


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    other = 0
    for index in range(256):
        other = (other + state[index] + key[index % len(key)]) % 256
        state[index], state[other] = state[other], state[index]
    out, index, other = bytearray(), 0, 0
    for byte in data:
        index = (index + 1) % 256
        other = (other + state[index]) % 256
        state[index], state[other] = state[other], state[index]
        out.append(byte ^ state[(state[index] + state[other]) % 256])
    return bytes(out)
