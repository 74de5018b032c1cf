"""Media that a request names instead of sending: files of allowed folders, hosts that are allowed.

Both are off unless the user allows them. A file is opened component by component without following
a symbolic link, so that it lies in the folder when it is read, not only when it was checked. A host
is resolved once, every one of its addresses must be public, and that address is connected to; each
redirect is checked in the same way (server-side request forgery).
"""

import http.client
import ipaddress
import os
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from smolvideo.errors import SourceError
from smolvideo.formatting import format_bytes
from smolvideo.serve.api_errors import ApiError, forbidden, invalid
from smolvideo.source import display_url, is_web_address, path_of_file_url
from smolvideo.text_input import open_flags

_CHUNK = 1 << 20
MAX_REDIRECTS = 5


def open_allowed_file(named: str, folders: Sequence[Path], param: str | None) -> BinaryIO:
    """Open a local file that a request names, as a path or ``file:`` address.

    Raises ApiError 403 with one message for all that is outside, missing or no regular file: the
    answer must not tell which files exist.
    """
    refusal = forbidden(
        "local files are read from allowed folders only, and no such file is in one "
        "(`smolvideo serve --allow-folder DIR`)",
        param=param,
    )
    try:
        path = path_of_file_url(named) if named.lower().startswith("file:") else Path(named)
    except SourceError as error:
        raise refusal from error
    if not folders or not path.is_absolute() or "\0" in named:
        raise refusal
    for folder in folders:
        root = Path(os.path.realpath(folder))
        with suppress(OSError, ValueError):
            # Links inside of the folder may point to other places of it.
            real = Path(os.path.realpath(path))
            if real.is_relative_to(root) and real != root:
                return _open_below(root, real.relative_to(root).parts)
    raise refusal


def _open_below(root: Path, parts: Sequence[str]) -> BinaryIO:
    """Open the regular file at ``parts`` below ``root`` without following any link.

    Raises OSError. Where the system cannot open relative to a folder (Windows), the resolved path
    is opened.
    """
    no_follow, directory = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_DIRECTORY", 0)
    if os.open not in os.supports_dir_fd:
        descriptor = os.open(root.joinpath(*parts), open_flags() | no_follow)
    else:
        folder = os.open(root, os.O_RDONLY | directory)
        try:
            for part in parts[:-1]:
                flags = os.O_RDONLY | directory | no_follow
                inner = os.open(part, flags, dir_fd=folder)
                os.close(folder)
                folder = inner
            descriptor = os.open(parts[-1], open_flags() | no_follow, dir_fd=folder)
        finally:
            os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is no regular file")
    return open(descriptor, "rb")


Resolve = Callable[[str, int], list[str]]
"""Returns the addresses of a host, as text."""


def resolve_host(host: str, port: int) -> list[str]:
    """Return the addresses of ``host``, as a connection would use them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]).partition("%")[0] for one in found]


@dataclass(frozen=True)
class MediaFetcher:
    """Fetches files from allowed hosts over http(s), within limits of size and time.

    ``allowed_domains`` are host names, ``*.example.org`` for all below one, or ``*``. ``resolve``
    and ``connect`` are replaced in tests.
    """

    allowed_domains: Sequence[str]
    max_bytes: int
    timeout_seconds: float = 20.0
    total_seconds: float = 300.0
    resolve: Resolve = resolve_host
    connect: Callable[[str, int, float], socket.socket] = field(
        default=lambda address, port, timeout: socket.create_connection((address, port), timeout)
    )

    def fetch(
        self, url: str, param: str | None, check: Callable[[], None] = lambda: None
    ) -> Iterator[bytes]:
        """Yield the bytes at ``url``; ``check`` is called between them, to cancel.

        Raises ApiError: 403 for a host that is not allowed, or not public, at any redirect; 413 for
        a file that is too large; 400 where nothing can be fetched.
        """
        deadline = time.monotonic() + self.total_seconds
        for _ in range(MAX_REDIRECTS + 1):
            with ExitStack() as stack:
                connection = stack.enter_context(closing(self._open(url, param)))
                response = stack.enter_context(self._get(connection, url, param))
                target = response.getheader("location")
                if response.status in (301, 302, 303, 307, 308) and target:
                    url = urljoin(url, target)
                    continue
                if response.status != 200:
                    raise _failed(url, f"the server answers {response.status}", param)
                yield from self._chunks(response, url, param, deadline, check)
                return
        raise _failed(url, f"more than {MAX_REDIRECTS} redirects", param)

    def _open(self, url: str, param: str | None) -> http.client.HTTPConnection:
        """Return a connection to the public address of an allowed host."""
        if not is_web_address(url):
            raise invalid("only http:// and https:// addresses can be fetched", param=param)
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
        if not self._is_allowed(host):
            raise forbidden(
                f"the host `{host[:100]}` is not allowed "
                "(`smolvideo serve --allow-domain HOST`, or send the file itself)",
                param=param,
            )
        port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
        try:
            addresses = self.resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise _failed(url, "there is no such host", param) from error
        if not addresses or not all(map(is_public_address, addresses)):
            raise forbidden(f"the host `{host[:100]}` has no public address", param=param)
        return _PinnedConnection(
            host, port, addresses[0], self.connect, self.timeout_seconds,
            secure=parts.scheme.lower() == "https",
        )  # fmt: skip

    def _is_allowed(self, host: str) -> bool:
        for domain in (one.rstrip(".").lower() for one in self.allowed_domains):
            below = domain.removeprefix("*")
            if domain in ("*", host) or (domain.startswith("*.") and host.endswith(below)):
                return True
        return False

    def _get(
        self, connection: http.client.HTTPConnection, url: str, param: str | None
    ) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            headers = {"accept-encoding": "identity", "user-agent": "smolvideo"}
            connection.request("GET", target, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _failed(url, "it cannot be fetched", param) from error

    def _chunks(
        self,
        response: http.client.HTTPResponse,
        url: str,
        param: str | None,
        deadline: float,
        check: Callable[[], None],
    ) -> Iterator[bytes]:
        size = 0
        while True:
            check()
            try:
                chunk = response.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _failed(url, "the transfer broke off", param) from error
            if not chunk:
                if response.length:
                    raise _failed(url, "the transfer broke off", param)
                return
            size += len(chunk)
            if size > self.max_bytes:
                raise too_large(self.max_bytes, param)
            if time.monotonic() > deadline:
                raise _failed(url, f"it takes more than {self.total_seconds:.0f} s", param)
            yield chunk


class _PinnedConnection(http.client.HTTPConnection):
    """A connection to one checked address; the host's name is for TLS and the ``Host`` header."""

    def __init__(
        self,
        host: str,
        port: int,
        address: str,
        dial: Callable[[str, int, float], socket.socket],
        timeout: float,
        *,
        secure: bool,
    ) -> None:
        super().__init__(host, port, timeout=timeout)
        if secure:
            self.default_port = 443
        self._address = address
        self._dial = dial
        self._timeout = timeout
        self._secure = secure

    def connect(self) -> None:
        raw = self._dial(self._address, self.port, self._timeout)
        if self._secure:
            raw = ssl.create_default_context().wrap_socket(raw, server_hostname=self.host)
        self.sock = raw


def is_public_address(address: str) -> bool:
    """Return whether an address is of the public internet, also where it embeds an IPv4 one.

    >>> [is_public_address(one) for one in ("8.8.8.8", "169.254.169.254", "::ffff:10.0.0.1")]
    [True, False, False]
    """
    from smolvideo.source.urls import Reach, reach_of_address

    try:
        return reach_of_address(ipaddress.ip_address(address)) is Reach.PUBLIC
    except ValueError:
        return False


def too_large(max_bytes: int, param: str | None) -> ApiError:
    """Return the 413 for a request or a file beyond the limit."""
    return ApiError(
        413,
        f"it is larger than the limit of {format_bytes(max_bytes)}",
        param=param,
        code="too_large",
    )


def _failed(url: str, why: str, param: str | None) -> ApiError:
    return invalid(f"cannot fetch {display_url(url)}: {why}", param=param, code="invalid_media")
