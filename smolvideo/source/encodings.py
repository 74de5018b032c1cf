"""Decompression of HTTP responses with a size limit, against decompression bombs.

A kilobyte of gzip can expand to a megabyte, and, compressed twice, to a gigabyte. yt-dlp
decompresses whatever a server sends, in memory and without a limit.
"""

import io
import urllib.request
import urllib.response
import zlib
from typing import Any

from smolvideo.errors import SourceError

ENCODINGS = ("gzip", "deflate")
"""Content encodings that are requested and accepted."""

MAX_PAGE = 64 * 2**20
"""Maximum bytes of a page or list."""
_MAX_ENCODINGS = 3
_RAW_DEFLATE = -zlib.MAX_WBITS
_WINDOWS = {"gzip": (16 + zlib.MAX_WBITS,), "deflate": (zlib.MAX_WBITS, _RAW_DEFLATE)}
"""``deflate`` is a zlib stream (RFC 9110, §8.4.1.2), but some servers send raw deflate."""


def decoded_answer(answer: Any) -> Any:
    """Return a urllib response decompressed; unchanged if it has no content encoding.

    Raises SourceError if it exceeds ``MAX_PAGE`` or has an encoding that was not requested.
    """
    named = ",".join(answer.headers.get_all("Content-Encoding") or ())
    encodings = [one.strip().lower() for one in named.split(",")]
    encodings = [one.removeprefix("x-") for one in encodings if one not in ("", "identity")]
    if not encodings:
        return answer
    if len(encodings) > _MAX_ENCODINGS or not set(encodings) <= set(ENCODINGS):
        raise SourceError(f"the server answers in an encoding not asked for: {named[:40]}")
    content = answer.read(MAX_PAGE + 1)
    for encoding in reversed(encodings):
        _check_size(len(content))
        content = _decoded(content, encoding)
    for header in ("Content-Encoding", "Content-Length"):
        del answer.headers[header]
    decoded = urllib.response.addinfourl(
        io.BytesIO(content), answer.headers, answer.url, answer.code
    )
    decoded.msg = answer.msg  # type: ignore[attr-defined]
    answer.close()
    return decoded


def _decoded(content: bytes, encoding: str) -> bytes:
    """Decompress one layer, ignoring trailing bytes. Raises SourceError if damaged or too large."""
    if not content:
        return content
    for window in _WINDOWS[encoding]:
        stream = zlib.decompressobj(window)
        try:
            found = stream.decompress(content, MAX_PAGE + 1)
        except zlib.error:
            continue
        _check_size(len(found))
        if stream.eof:
            return found
    raise SourceError(f"what the server sends as {encoding} is none, or was cut short")


def _check_size(size: int) -> None:
    if size > MAX_PAGE:
        raise SourceError(f"a page or list of more than {MAX_PAGE >> 20} MB is not read")
