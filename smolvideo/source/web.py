"""The door between yt-dlp and the network: it opens to the web only, and is closed at the end."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from smolvideo.errors import SourceError
from smolvideo.source.names import show_url

_WEB_SCHEMES = ("http", "https", "data")
"""``data:`` carries its content in itself (keys of streams) and reaches nothing."""


class WebDoor:
    """Takes the place of a ``YoutubeDL``'s ``urlopen``.

    A page, a redirect or a stream's list of pieces may point to ``file:`` or ``ftp:``, which nobody
    meant who typed an http address. And yt-dlp leaves answers open that it has read only in part.
    """

    def __init__(self, open_any: Callable[[Any], Any]) -> None:
        self._open_any = open_any
        self._answers: list[Any] = []

    def __call__(self, request: Any) -> Any:
        from yt_dlp.networking.exceptions import HTTPError

        _refuse_outside_web(request if isinstance(request, str) else request.url)
        try:
            answer = self._open_any(request)
        except HTTPError as error:
            self._answers.append(error.response)
            raise
        self._answers = [older for older in self._answers if not older.closed] + [answer]
        _refuse_outside_web(answer.url)
        return answer

    def close(self) -> None:
        for answer in self._answers:
            answer.close()


def _refuse_outside_web(url: str) -> None:
    if urlsplit(url).scheme.lower() not in _WEB_SCHEMES:
        raise SourceError(f"the address leads out of the web, to {show_url(url)}")
