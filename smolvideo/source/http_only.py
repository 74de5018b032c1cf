"""The door between yt-dlp and the network: it opens to the web only, and is closed at the end."""

import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from smolvideo.credentials import without_credentials
from smolvideo.errors import SourceError
from smolvideo.source.address_scope import check_named, reach_of
from smolvideo.source.encodings import ENCODINGS, MAX_PAGE, decoded_answer
from smolvideo.source.urls import display_url

_WEB_SCHEMES = ("http", "https", "data")
"""``data:`` carries its content in itself (keys of streams) and reaches nothing."""


@contextmanager
def web_client(settings: dict[str, Any], named_by: str) -> Iterator[Any]:
    """A ``YoutubeDL`` that asks for nothing but what ``named_by`` may name.

    Its only client is urllib's: the others that yt-dlp finds on some machines follow redirects
    where nobody can look at them. Options of yt-dlp's own configuration files are not read, and
    plugins in its folders not run.
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
    door = _WebDoor(ydl.urlopen, guard)
    try:
        ydl._request_director = ydl.build_request_director([UrllibRH])
        ydl.urlopen = door
        yield ydl
    finally:
        door.close()
        ydl.close()


_loading = threading.Lock()


def _without_plugins(settings: dict[str, Any]) -> Any:
    """A ``YoutubeDL`` that has not looked for plugins: code in the user's folders and beside the
    program, which would run in here at the mere sight of an address.

    A program that uses yt-dlp besides, and its plugins, goes on having them.
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
    """urllib asks it before it opens anything: the address itself, and each redirect.

    A page, a redirect or a stream's list of pieces may point to ``file:`` or ``ftp:``, which nobody
    meant who typed an http address, or to this machine's own network. Once a far place was asked,
    all that comes after may be its doing.
    """

    handler_order = 0  # before all others

    def __init__(self, named_by: str) -> None:
        self.refusal: SourceError | None = None
        self._named_by = named_by
        self._reach = reach_of(named_by)
        self._site = ("", "")

    def default_open(self, request: urllib.request.Request) -> None:
        """None lets the next handler open it. Raises what yt-dlp passes on."""
        from yt_dlp.networking.exceptions import RequestError

        try:
            self.check(request.full_url)
        except SourceError as error:
            self.refusal = error
            raise RequestError(str(error)) from error
        referer = request.get_header("Referer")
        if referer is not None:  # extractors set it, with the login and token of the page
            request.add_header("Referer", without_credentials(referer))
        site = _site(request.full_url)
        if not request.unverifiable:  # no redirect, in the words of RFC 2965
            self._site = site
        elif site != self._site:
            # What proves the user to one site is nothing for another.
            request.remove_header("Authorization")

    def http_response(self, _: urllib.request.Request, answer: Any) -> Any:
        """What a server answers, decoded before yt-dlp does it without a limit."""
        from yt_dlp.networking.exceptions import RequestError

        try:
            return decoded_answer(answer)
        except SourceError as error:
            answer.close()
            self.refusal = error
            raise RequestError(str(error)) from error

    https_response = http_response

    def check(self, url: str) -> None:
        """Raises SourceError for what is out of the web, or too near."""
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
    """``read`` where it is asked for all there is, as of pages and lists: not without an end."""

    def read_some(amount: int | None = None) -> bytes:
        if amount is not None and amount >= 0:
            return read(amount)
        content = read(MAX_PAGE + 1)
        if len(content) > MAX_PAGE:
            raise SourceError(f"a page or list of more than {MAX_PAGE >> 20} MB is not read")
        return content

    return read_some


class _WebDoor:
    """Takes the place of a ``YoutubeDL``'s ``urlopen``, which leaves answers open that it has read
    only in part."""

    def __init__(self, open_any: Any, guard: _Guard) -> None:
        self._open_any = open_any
        self._guard = guard
        self._answers: list[Any] = []

    def __call__(self, request: Any) -> Any:
        from yt_dlp.networking.exceptions import HTTPError, RequestError

        self._guard.check(request if isinstance(request, str) else request.url)
        try:
            answer = self._open_any(request)
        except HTTPError as error:
            self._answers.append(error.response)
            raise
        except RequestError:
            if self._guard.refusal is not None:
                raise self._guard.refusal from None
            raise
        self._answers = [older for older in self._answers if not older.closed] + [answer]
        answer.read = _limited(answer.read)
        return answer

    def close(self) -> None:
        for answer in self._answers:
            answer.close()
