"""What may be an http(s) URL, decided by its text alone; whether it may be fetched, egress decides."""

from __future__ import annotations

from urllib.parse import urlsplit

from maskmill.shared.errors import InvalidRequest


def check_http_url(url: str) -> None:
    """Raise InvalidRequest unless `url` is an http(s) URL with a host, all in printable characters."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest(f"not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidRequest(f"a URL starts with http:// or https:// and names a host; got {url[:100]!r}")
    if not url.isprintable() or " " in url:
        raise InvalidRequest("a URL holds no spaces or control characters; percent-encode them")
