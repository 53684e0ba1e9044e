"""What the drop-in endpoint's `image` is: a URL, or bytes in base64; else, what it looks like and what to send."""

from __future__ import annotations

import binascii
import re

from maskmill.shared.errors import UnreadableInput

NEITHER = "neither an http(s) URL nor base64"
SEND = "send the file's bytes in base64 or an http(s) URL"
# Longer than a path or a URL may be, and than any picture that is worth a look is short.
LONGEST_NAME = 4096
# The base64 of a JPEG begins with "/9j/" and so looks like a path, but no picture is as short as this.
SHORTEST_PICTURE = 64
PATH = re.compile(r"(/|\./|\.\./|~/|\\\\|[A-Za-z]:[\\/]).*|[^:]+\.(jpe?g|png|bmp|webp|tiff?|gif|avif|jp2|pdf)", re.I)
OTHER_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):.*", re.S)


def is_url(image: str) -> bool:
    """Whether it is to be fetched."""
    return image[:LONGEST_NAME].lstrip()[:8].lower().startswith(("http://", "https://"))


def decode_image(image: str) -> bytes:
    """The bytes of base64, a data: URI's included; what is not of the alphabet, such as line breaks, is skipped.

    Raises UnreadableInput that says what the text looks like and what to send instead.
    """
    data = _data_of(image) if image[:5].lower() == "data:" else image
    if len(data) <= LONGEST_NAME:
        _refuse_names(data.strip())
    if "-" in data or "_" in data:
        raise UnreadableInput(
            f"{NEITHER}: it looks like URL-safe base64, of '-' and '_'; send standard base64, of '+' and '/'"
        )
    try:
        return binascii.a2b_base64(data)
    except ValueError as error:
        raise UnreadableInput(f"{NEITHER}: {error}; {SEND}") from None


def _data_of(uri: str) -> str:
    head, comma, data = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise UnreadableInput(
            f"{NEITHER}: it is a data: URI that is not in base64; send data:image/png;base64,… or the base64 alone"
        )
    return data


def _refuse_names(text: str) -> None:
    if PATH.fullmatch(text) and ("." in text or "\\" in text or len(text) < SHORTEST_PICTURE):
        raise UnreadableInput(
            f"{NEITHER}: it looks like the path of a file, and this endpoint reads none of the server's; {SEND}"
        )
    if scheme := OTHER_SCHEME.fullmatch(text):
        raise UnreadableInput(f"{NEITHER}: it looks like a URL of {scheme[1][:20]}:, which is not fetched; {SEND}")
