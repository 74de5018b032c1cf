"""Network guard for yt-dlp: http(s) only, SSRF checks on every request, and size limits.

Responses: a kilobyte of gzip can expand to a megabyte, and, compressed twice, to a gigabyte. yt-dlp
decompresses whatever a server sends, in memory and without a limit.
"""

import io
import threading
import urllib.request
import urllib.response
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from smolvideo.credentials import without_credentials
from smolvideo.errors import SourceError
from smolvideo.source.urls import check_named, display_url, reach_of

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


_WEB_SCHEMES = ("http", "https", "data")
"""``data:`` carries its content in the URL (keys of streams), and sends no request."""


@contextmanager
def web_client(settings: dict[str, Any], named_by: str) -> Iterator[Any]:
    """Context manager: a ``YoutubeDL`` that only requests URLs that ``named_by`` may name.

    Its only HTTP client is urllib's: the others that yt-dlp may find follow redirects without a
    hook. yt-dlp's own configuration files and plugins are not loaded.
    """
    from yt_dlp.networking._helper import add_accept_encoding_header
    from yt_dlp.networking._urllib import UrllibRH as Client

    guard = _Guard(named_by)

    class UrllibRH(Client):  # type: ignore[misc]  # yt-dlp knows its clients by these names
        def _create_instance(self, *args: Any, **named: Any) -> Any:
            opener = super()._create_instance(*args, **named)
            opener.add_handler(guard)
            return opener

        def _prepare_headers(self, _: Any, headers: Any) -> None:
            add_accept_encoding_header(headers, ENCODINGS)

    ydl = _without_plugins(settings)
    opener = _CheckedOpener(ydl.urlopen, guard)
    try:
        ydl._request_director = ydl.build_request_director([UrllibRH])
        ydl.urlopen = opener
        yield ydl
    finally:
        opener.close()
        ydl.close()


_loading = threading.Lock()


def _without_plugins(settings: dict[str, Any]) -> Any:
    """Return a ``YoutubeDL`` without plugins: code in the user's folders or next to the program,
    which would run in this process for any URL.

    A host program that uses yt-dlp with plugins keeps them.
    """
    import yt_dlp
    from yt_dlp.globals import all_plugins_loaded

    with _loading:
        before, all_plugins_loaded.value = all_plugins_loaded.value, True
        try:
            return yt_dlp.YoutubeDL(settings)
        finally:
            all_plugins_loaded.value = before


class _Guard(urllib.request.BaseHandler):
    """urllib handler that checks every URL, redirects included, before it is opened.

    A page, redirect or segment list may name ``file:`` or ``ftp:`` URLs, or hosts in the local
    network. After the first request to a public host, all later URLs count as named by it.
    """

    handler_order = 0  # before all other handlers

    def __init__(self, named_by: str) -> None:
        self.refusal: SourceError | None = None
        self._named_by = named_by
        self._reach = reach_of(named_by)
        self._site = ("", "")

    def default_open(self, request: urllib.request.Request) -> None:
        """Return None, so that the next handler opens the request. Raises yt-dlp's RequestError."""
        from yt_dlp.networking.exceptions import RequestError

        try:
            self.check(request.full_url)
        except SourceError as error:
            self.refusal = error
            raise RequestError(str(error)) from error
        referer = request.get_header("Referer")
        if referer is not None:  # extractors set it to the page's URL, credentials included
            request.add_header("Referer", without_credentials(referer))
        site = _site(request.full_url)
        if not request.unverifiable:  # not a redirect, in the terms of RFC 2965
            self._site = site
        elif site != self._site:
            # Credentials for one site are not sent to another.
            request.remove_header("Authorization")

    def http_response(self, _: urllib.request.Request, answer: Any) -> Any:
        """Decode a response within a limit, before yt-dlp would decode it without one."""
        from yt_dlp.networking.exceptions import RequestError

        try:
            return decoded_answer(answer)
        except SourceError as error:
            answer.close()
            self.refusal = error
            raise RequestError(str(error)) from error

    https_response = http_response

    def check(self, url: str) -> None:
        """Raise SourceError for a URL of another scheme, or in a more local scope."""
        scheme = urlsplit(url).scheme.lower()
        if scheme not in _WEB_SCHEMES:
            raise SourceError(f"the address leads out of the web, to {display_url(url)}")
        if scheme == "data":
            return
        check_named(url, self._named_by, self._reach)
        self._reach = min(self._reach, reach_of(url))


def _site(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _limited(read: Callable[..., bytes]) -> Callable[..., bytes]:
    """Wrap ``read`` so that reading a whole page or list is limited to ``MAX_PAGE`` bytes."""

    def read_some(amount: int | None = None) -> bytes:
        if amount is not None and amount >= 0:
            return read(amount)
        content = read(MAX_PAGE + 1)
        if len(content) > MAX_PAGE:
            raise SourceError(f"a page or list of more than {MAX_PAGE >> 20} MB is not read")
        return content

    return read_some


class _CheckedOpener:
    """Replaces a ``YoutubeDL``'s ``urlopen``: checks URLs, limits reads, and closes the responses
    that yt-dlp only reads in part."""

    def __init__(self, open_url: Any, guard: _Guard) -> None:
        self._open_url = open_url
        self._guard = guard
        self._responses: list[Any] = []

    def __call__(self, request: Any) -> Any:
        from yt_dlp.networking.exceptions import HTTPError, RequestError

        self._guard.check(request if isinstance(request, str) else request.url)
        try:
            answer = self._open_url(request)
        except HTTPError as error:
            self._responses.append(error.response)
            raise
        except RequestError:
            if self._guard.refusal is not None:
                raise self._guard.refusal from None
            raise
        self._responses = [older for older in self._responses if not older.closed] + [answer]
        answer.read = _limited(answer.read)
        return answer

    def close(self) -> None:
        for answer in self._responses:
            answer.close()
