"""Answers of web servers that come compressed: decoded within a limit, whatever they unpack to.

A kilobyte of gzip can become a megabyte, and that, compressed once more, a gigabyte. yt-dlp decodes
all that a server sends, in memory, before anyone can look at it.
"""

import io
import urllib.request
import urllib.response
import zlib
from typing import Any

from smolvideo.errors import SourceError

ENCODINGS = ("gzip", "deflate")
"""What is asked for, and all that is decoded."""

MAX_PAGE = 64 * 2**20
"""Bytes of a page or a list."""
_MAX_ENCODINGS = 3
_RAW_DEFLATE = -zlib.MAX_WBITS
_WINDOWS = {"gzip": (16 + zlib.MAX_WBITS,), "deflate": (zlib.MAX_WBITS, _RAW_DEFLATE)}
"""What is called deflate is zlib (RFC 9110, §8.4.1.2), and from some servers deflate alone."""


def decoded_answer(answer: Any) -> Any:
    """``answer`` of urllib's, decoded, or as it is where it is not encoded.

    Raises SourceError for what is larger than ``MAX_PAGE`` or in an encoding not asked for.
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
    """Raises SourceError for what is damaged or too large; what follows the stream is left out."""
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
