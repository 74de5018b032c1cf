"""Who may call the server: the host by which it is called, the origin of a web page, and the key.

A page of the web cannot read what a server on this machine answers, but it can make a browser send
requests, and rebind its own name to 127.0.0.1 (CVE-2024-39720 and others). So the ``Host`` of a
request must be one of the server's own names, an ``Origin`` must be its own or an allowed one, and
bodies must be JSON, which a page cannot send elsewhere without asking.
"""

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from smolvideo.serve.api_errors import ApiError, forbidden
from smolvideo.serve.options import ServerOptions, is_loopback_host
from smolvideo.serve.responses import error_response

OPEN_PATHS = ("/health", "/")
"""Paths that need no key: whether the server is up, and the page, which asks for the key itself."""


class AccessGuard:
    """ASGI middleware that checks host, origin and key before anything else is read."""

    def __init__(self, app: ASGIApp, options: ServerOptions) -> None:
        self._app = app
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        try:
            check_host(headers.get("host", ""), self._options)
            check_origin(headers, self._options)
            is_preflight = scope["method"] == "OPTIONS" and self._options.allowed_origins
            if scope["path"] not in OPEN_PATHS and not is_preflight:
                check_key(headers, self._options.api_key)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def check_host(host: str, options: ServerOptions) -> None:
    """Raise ApiError 403 unless ``host`` (a ``Host`` header) is one of the server's own names."""
    if options.accepts_any_host:
        return
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        name = ""
    own = {options.host.strip("[]").lower(), *(one.lower() for one in options.allowed_hosts)}
    if name in own or (is_loopback_host(name) and options.is_loopback):
        return
    raise forbidden(
        "the server is not called by this host name (`smolvideo serve --allow-host NAME`)",
        code="host_not_allowed",
    )


def check_origin(headers: Mapping[str, str], options: ServerOptions) -> None:
    """Raise ApiError 403 for a request of a web page that is neither the server's own nor
    allowed."""
    origin = headers.get("origin")
    if origin is None or origin in options.allowed_origins or "*" in options.allowed_origins:
        return
    if origin != "null" and urlsplit(origin).netloc.lower() == headers.get("host", "").lower():
        return
    raise forbidden(
        "the web page of this origin may not call the server "
        "(`smolvideo serve --allow-origin ORIGIN`)",
        code="origin_not_allowed",
    )


def check_key(headers: Mapping[str, str], api_key: str | None) -> None:
    """Raise ApiError 401 unless the request has the key, compared in constant time."""
    if api_key is None:
        return
    scheme, _, given = headers.get("authorization", "").partition(" ")
    given = given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    # Header values are bytes, which starlette decodes as Latin-1.
    if hmac.compare_digest(given.encode("latin-1"), api_key.encode("utf-8", "surrogateescape")):
        return
    raise ApiError(
        401,
        # Not as `Authorization: …`: clients that hide credentials would hide the rest of the line.
        "the key is wrong" if given else "a key is needed, as bearer token in `Authorization`",
        code="invalid_api_key",
        kind="authentication_error",
        headers={"www-authenticate": "Bearer"},
    )
