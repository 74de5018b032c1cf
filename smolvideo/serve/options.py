"""Options and limits of the server; requests may lower the limits, never raise them."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from smolvideo.credentials import without_credentials
from smolvideo.errors import UsageError
from smolvideo.prompt import PromptOptions
from smolvideo.sampling import FrameSampling
from smolvideo.sanitize import display_name


@dataclass(frozen=True)
class ServerOptions:
    """Where the server listens, whom it lets in, and what a request may cost.

    ``api_key`` is required of every request where it is set, and must be set where ``host`` is not
    a loopback address. ``allowed_hosts`` are further names under which clients may reach the server
    (DNS rebinding), ``allowed_origins`` the origins of web pages that may call it (CORS).
    ``allowed_domains`` are hosts that videos may be fetched from, ``*`` for all public ones, and
    ``allowed_folders`` the folders of local files that requests may name; both are empty, so
    neither is possible, unless the user says so.

    ``sampling.max_frames`` is the ceiling of frames per request. ``max_body_bytes`` bounds a
    request, ``max_media_bytes`` a fetched or local file.
    ``max_waiting`` requests wait for the engine; more get a 503. ``max_sessions`` prompts and
    ``frame_cache_bytes`` of decoded frames are kept for further questions.
    ``keep_alive_seconds`` is the pause after which a silent stream gets a comment.
    Raises UsageError for a server without a key that others could reach, and for an origin
    or a domain that can match nothing.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    allowed_domains: tuple[str, ...] = ()
    allowed_folders: tuple[Path, ...] = ()
    sampling: FrameSampling = FrameSampling()  # noqa: RUF009 -- frozen
    prompt_options: PromptOptions = PromptOptions()  # noqa: RUF009 -- frozen
    reader: str = "auto"
    max_new_tokens: int = 256
    max_body_bytes: int = 64_000_000
    max_media_bytes: int = 2_000_000_000
    max_waiting: int = 8
    max_sessions: int = 4
    frame_cache_bytes: int = 256_000_000
    keep_alive_seconds: float = 10.0
    body_timeout_seconds: float = 60.0
    prepare_timeout_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.api_key is not None and not self.api_key.strip():
            hint = "leave `--api-key` out" if self.is_loopback else "give one: `--api-key KEY`"
            raise UsageError("the key of the server is empty", hint=hint)
        if not self.is_loopback and self.api_key is None:
            raise UsageError(
                f"without a key only this machine may use the server, not all that reach "
                f"`{self.host}`",
                hint="add `--api-key KEY`, or set SMOLVIDEO_API_KEY",
            )
        for origin in self.allowed_origins:
            if origin == "*" and self.api_key is None:
                raise UsageError(
                    "with `--allow-origin *` and no key every web page could use the server",
                    hint="name the origin, such as `https://chat.example.org`, or add `--api-key`",
                )
            check_origin_form(origin)
        for domain in self.allowed_domains:
            check_domain_form(domain)
        if self.max_waiting < 1 or self.max_sessions < 1:
            raise UsageError("at least one request must be able to wait, and one session to stay")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback_host(self.host)

    @property
    def accepts_any_host(self) -> bool:
        """Whether the ``Host`` of a request is not checked: a server for a whole network, whose key
        a rebound page does not have."""
        return "*" in self.allowed_hosts or (not self.is_loopback and not self.allowed_hosts)


def is_loopback_host(host: str) -> bool:
    """Return whether ``host`` is an address of this machine alone, or ``localhost``."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


_HOST = re.compile(r"\w([\w-]*\w)?(\.\w([\w-]*\w)?)*\.?")
_MAX_HOST = 253
"""Maximum length of a host name (RFC 1035)."""


def check_domain_form(domain: str) -> None:
    """Raise UsageError unless ``domain`` is a host name, ``*.`` before one, an IP address or
    ``*``."""
    if domain == "*" or _is_host(domain.removeprefix("*.")):
        return
    raise UsageError(
        f"`{display_name(without_credentials(domain))}` of `--allow-domain` is no host name",
        hint="such as `media.example.org`, `*.example.org`, or `*` for every public one",
    )


def check_origin_form(origin: str) -> None:
    """Raise UsageError unless ``origin`` is as browsers send it (RFC 6454), or ``*``."""
    if origin in ("*", "null", "file://"):
        return
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = parts.hostname or ""
    is_usual = port in (None, {"http": 80, "https": 443}.get(parts.scheme))
    name = f"[{host}]" if ":" in host else host
    sent = f"{parts.scheme}://{name}{'' if is_usual else f':{port}'}"
    is_near = parts.scheme != "" and _is_host(host)
    if origin == sent and is_near:
        return
    raise UsageError(
        f"`{display_name(without_credentials(origin))}` of `--allow-origin` is not an origin that "
        "browsers send",
        hint=f"`{sent}` is one" if is_near else "such as `https://chat.example.org`",
    )


def _is_host(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return len(name) <= _MAX_HOST and _HOST.fullmatch(name) is not None
    return True
