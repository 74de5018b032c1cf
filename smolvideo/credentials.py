"""Redaction of credentials in URLs, headers and messages, before they are shown or written.

A part of a URL is a credential by its name or its form, never by a guess at its randomness, so that
the rules can be stated (README, "Security"):

- the user name and password before the host;
- signatures and their companions (``sig``, ``X-Amz-*``, ``Expires`` …): they authorise access to
  the resource that the rest of the URL names, and do not name it themselves;
- parameters whose name contains a word such as ``token``, ``password`` or ``api_key``, and values
  in the form of a known kind of token, whatever their name;
- all of these nested in a value (URLs, parameters, headers, JSON), however often it is encoded;
- ``key``, ``code``, ``session`` and the like, and fragments: these may also identify the video, so
  they are replaced by a short digest.
"""

import hashlib
import re
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit, urlunsplit

from smolvideo.credential_names import (
    HALF_ADDRESS,
    TOKEN,
    USER,
    USER_IN_TEXT,
    Sort,
    is_file_name,
    is_secret,
    sort_of,
)

__all__ = [
    "WebAddress",
    "environment_secrets",
    "redact",
    "sort_of",
    "without_credentials",
    "without_secrets",
]

_PLAIN_FRAGMENT = re.compile(r"(?:(?:t|xywh|track)=[\w:.,%-]{0,40}|\d{1,6})?")
"""Media fragments (https://www.w3.org/TR/media-frags/) and numbers, which are shown."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,15}:[/\\]{2}[^\s<>\"'`]+", re.IGNORECASE)
_NAME = r"(?<![\w.-])(?P<name>[A-Za-z][\w.-]{0,40}(?:\[\w{0,20}\]){0,3})"
_NAMES_IN_TEXT = re.compile(
    rf"""{_NAME}(?:=|%3D|\\{{0,3}}["']\s{{0,4}}:\s{{0,4}})""", re.IGNORECASE
)
"""``name=``, or ``"name":`` as in JSON."""
_NAMES_IN_VALUE = re.compile(
    rf"""{_NAME}[\]"'\\]{{0,4}}(?:\s{{0,4}}[:=]\s{{0,4}}|%3D|>)""", re.IGNORECASE
)
"""``_NAMES_IN_TEXT`` without quotes or with more of them, ``name[]=``, and ``<name>``."""
_AFTER_NAME = re.compile(
    r"""[\[{](?P<inner>[^\]}]{1,9999})|\\{0,3}["']?(?P<value>[^\s&;,"'`<>\\]{1,9999})"""
)
"""A list, an object or one word. Within a JSON string, quotes have backslashes."""
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)(['\"]?\s{0,4}[:=]\s{0,4})([^\r\n]+)"
    r"|\b(basic|bearer)(\s{1,4})([\w.~+/=-]{8,})",
    re.IGNORECASE,
)
_OTHER_HEADER = re.compile(
    r"(?<![\w.-])([A-Za-z]{1,20}(?:-[A-Za-z]{1,20}){1,6})(\s{0,4}:\s{0,4})([^\r\n]+)"
)
_SCHEME = re.compile(r"\b(token|apikey|digest|negotiate|ntlm)(\s{1,4})(\S{6,})", re.IGNORECASE)
"""Schemes like ``Bearer`` that are also ordinary words, so only matched inside URL values."""
_WORDS = re.compile(r"[^\s\"',:\\()\[\]{}<>]+")
"""Words of a hidden value: an error message may repeat each of them alone."""
_INNER_BASE64 = re.compile(r"eyJ[\w+/=-]{8,}")
"""Base64 of a JSON object (``eyJ`` encodes ``{"``)."""
_SMUGGLED = "__youtubedl_smuggle="
"""Marks data that yt-dlp passes from a playlist to an entry's extractor; not part of the URL."""
_HIDDEN = "…"
_DIGEST = re.compile(r"~[0-9a-f]{8}|…|%E2%80%A6")
"""A replaced value. It is left unchanged, which makes redaction idempotent."""
_ROUNDS = 50_000
"""PBKDF2 iterations (RFC 8018), to slow down guessing a password from a file name's digest."""
_MIN_SECRET = 4
"""Minimum length in characters. Shorter strings would be found inside ordinary words."""
_SIMPLE = re.compile(r"[\w.~-]{0,20}")
_DEEPEST = 3
"""Maximum nesting of URLs in URLs; deeper ones are hidden whole."""
_MAX_DECODINGS = 5
"""Maximum number of percent-decodings of a value."""


@dataclass(frozen=True, repr=False)
class WebAddress:
    """A URL whose credentials are used for the request only: ``str`` and ``repr`` redact them."""

    request: str
    """The URL to request, as it was typed. Never shown, never written."""

    def __str__(self) -> str:
        return self.public

    def __repr__(self) -> str:
        return f"WebAddress({self.public!r})"

    @cached_property
    def public(self) -> str:
        """The URL without credentials; equal for all signatures and tokens of one video."""
        return without_credentials(self.request)

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """The credentials, as typed and decoded, the longest first."""
        scrubber = _Scrubber()
        scrubber.address(self.request)
        found = (one for one in scrubber.secrets if one and not _DIGEST.fullmatch(one))
        every = {decode(one) for one in found for decode in (str, unquote, unquote_plus)}
        return tuple(sorted(filter(None, every), key=len, reverse=True))

    @cached_property
    def login(self) -> str:
        """All credentials but signatures, one per line: distinguishes two users of the URL.

        Empty if there are none. Only meant as input to a digest.
        """
        parts = _split(self.request)
        if parts is None:
            return self.request if self.public != self.request else ""
        fragment = "" if parts.fragment.startswith(_SMUGGLED) else parts.fragment
        segments = (one for one in parts.path.split("/") if _Scrubber().segment(one) != one)
        pieces = (
            piece
            for piece, sort in (*_pieces(parts.query), *_pieces(fragment))
            if sort == "credential" or (sort == "plain" and [*_Scrubber().pieces(piece)] != [piece])
        )
        user = parts.netloc.rpartition("@")[0]
        return "\n".join(filter(None, (user, *segments, *pieces)))

    @property
    def login_digest(self) -> str:
        """``login`` as 16 hexadecimal digits of PBKDF2 (slow); empty without a login."""
        parts = _split(self.request)
        return _slow_digest(self.login, parts.hostname or "" if parts else "") if self.login else ""

    @property
    def name(self) -> str:
        """``public``, with a digest appended that distinguishes logins to the same URL."""
        return f"{self.public}#~{self.login_digest[:8]}" if self.login else self.public

    def hide_in(self, text: str) -> str:
        """Return ``text`` without the credentials of this URL and of any other URL in it."""
        return redact(text, self.secrets)


def without_credentials(url: str) -> str:
    """Redact a URL: ``https://name:secret@host/x?v=1&token=abc`` → ``https://host/x?v=1``.

    An invalid URL loses everything before its last ``@``, and its query.
    """
    return _Scrubber().address(url)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` without the credentials of the URLs, parameters and headers in it.

    ``secrets`` are known credentials, which are replaced wherever they occur.
    """
    for secret in secrets:
        if len(secret) >= _MIN_SECRET:
            text = text.replace(secret, _HIDDEN)
    return _Scrubber().text(text)


def environment_secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the model-hub tokens and proxy passwords among the environment variables."""
    found: list[str] = []
    for name, value in environment.items():
        upper = name.upper()
        if upper.endswith("_PROXY") and "@" in value:
            found += WebAddress(value if "://" in value else f"http://{value}").secrets
        elif upper.startswith(("HF_", "HUGGING")) and upper.endswith("TOKEN") and value:
            found.append(value)
    return tuple(sorted(set(found), key=len, reverse=True))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a subprocess that parses untrusted input: no tokens or
    passwords."""
    return {
        name: value
        for name, value in environment.items()
        if sort_of(name) not in ("credential", "signature") and redact(value) == value
    }


def _split(url: str) -> SplitResult | None:
    """Split a URL. None if it is invalid or ambiguous: a password with ``/``, ``?`` or ``#`` may
    span several parts, or a slash is missing, so that there is an ``@`` but no host."""
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        return None
    is_half = not parts.netloc and "@" in url and parts.scheme != ""
    return None if is_half or "\\" in parts.netloc else parts


def _pieces(query: str) -> Iterator[tuple[str, Sort]]:
    """Yield the undecoded ``name=value`` pieces of a query with the sort of each."""
    pieces = [piece for piece in re.split(r"[&;]", query) if piece]
    named = [_named(piece) for piece in pieces]
    signed = any(sort_of(*one) == "signature" for one in named)
    for piece, one in zip(pieces, named, strict=True):
        sort = sort_of(*one)
        yield piece, ("signature" if signed else "plain") if sort == "companion" else sort


def _named(piece: str) -> tuple[str, str]:
    name, _, value = piece.partition("=")
    # A doubly encoded name counts as well.
    return unquote_plus(unquote_plus(name)), unquote_plus(value)


class _Scrubber:
    """Removes credentials from texts and URLs, and collects them in ``secrets``.

    A value may hold a URL, whose values may hold others: ``depth`` is the nesting level.
    """

    def __init__(self, depth: int = 0, secrets: list[str] | None = None) -> None:
        self._depth = depth
        self.secrets: list[str] = [] if secrets is None else secrets

    def text(self, text: str) -> str:
        """Redact free text, such as an error message."""
        text = _ADDRESS.sub(self._address_in_text, text)
        text = HALF_ADDRESS.sub(self._half_address, text)
        text = USER_IN_TEXT.sub(self._user_in_text, text)
        text = _OTHER_HEADER.sub(self._other_header, _HEADER.sub(self._header, text))
        return self._named_values(text, _NAMES_IN_TEXT)

    def value(self, text: str) -> str:
        """Redact the decoded value of a URL parameter; more patterns apply than in free text."""
        text = USER.sub(self._user, _SCHEME.sub(self._header, self.text(text)))
        return self._named_values(text, _NAMES_IN_VALUE)

    def address(self, url: str) -> str:
        """See ``without_credentials``."""
        parts = _split(url)
        if parts is None:
            scheme, _, rest = url.partition(":")
            hidden, _, host = rest.rpartition("@")
            self.secrets += filter(None, re.split(r"[:/\\@?#&=]+", hidden))
            bare = re.split(r"[?#]", host.lstrip("/\\"))[0]
            return f"{scheme}://{bare}"
        user, _, host = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        self.secrets.append(password or name)  # a user name alone may be a token
        path = "/".join(map(self.segment, parts.path.split("/")))
        query = "&".join(self.pieces(parts.query))
        fragment = self._fragment(parts.fragment)
        return urlunsplit(SplitResult(parts.scheme, host, path, query, fragment))

    def pieces(self, query: str) -> Iterator[str]:
        """Yield the ``name=value`` pieces of a query that may be shown, redacted."""
        for piece, sort in _pieces(query):
            name, equals, value = piece.partition("=")
            if sort == "plain":
                yield f"{self._inside(name)}{equals}{self._inside(value)}"
                continue
            self.secrets.append(value)
            self._inside(name)
            if sort == "doubtful":
                yield f"{name}={_digest(value)}" if value else piece

    def segment(self, segment: str) -> str:
        """Redact a path segment: ``x;jsessionid=1``, ``hdnts=exp=1~hmac=2``, ``eyJ….….…``."""
        first, *parameters = segment.split(";")
        safe = []
        for one in parameters:
            if sort_of(*_named(one)) in ("plain", "companion"):
                safe.append(one)
            else:
                self.secrets.append(one.partition("=")[2])
        name, equals, value = first.partition("=")
        if equals and sort_of(*_named(first)) in ("signature", "credential", "doubtful"):
            self.secrets.append(value)
            shown = _digest(value) if sort_of(name) == "doubtful" else _HIDDEN
            first = f"{name}={shown}"
        elif any(sort_of(*_named(one)) == "signature" for one in first.split("~")[1:]):
            named = (_named(one) for one in first.split("~")[1:])
            self.secrets += [value for name, value in named if sort_of(name) == "signature"]
            first = _HIDDEN  # Akamai's exp=1~acl=*~hmac=2
        elif TOKEN.fullmatch(unquote(first)):
            self.secrets.append(first)
            first = _digest(first)
        else:
            first = self._inside(first)
        return ";".join([first, *safe])

    def _fragment(self, fragment: str) -> str:
        if fragment.startswith(_SMUGGLED) or _PLAIN_FRAGMENT.fullmatch(fragment):
            return "" if fragment.startswith(_SMUGGLED) else fragment
        if "=" in fragment:
            return "&".join(self.pieces(fragment))
        self.secrets.append(fragment)
        return _digest(fragment)

    def _inside(self, value: str) -> str:
        """Redact nested credentials in a value, decoding it up to ``_MAX_DECODINGS`` times.

        Returned unchanged if there are none.
        """
        if _SIMPLE.fullmatch(value):
            return value
        decoded, before = value, None
        for _ in range(_MAX_DECODINGS):
            if decoded == before:
                break
            decoded, before = unquote_plus(decoded), decoded
        inner = _Scrubber(self._depth + 1, self.secrets)
        # A token anywhere in the value, or nesting beyond the limit, is a secret itself.
        is_token = TOKEN.search(decoded)
        if is_token or (self._depth >= _DEEPEST and "://" in decoded):
            self.secrets.append(decoded)
        if self._depth >= _DEEPEST and "://" in decoded:
            return _digest(value)
        if _INNER_BASE64.fullmatch(decoded) and _has_secrets(decoded):
            self.secrets.append(decoded)
            return _digest(value)
        clean = inner.value(decoded)
        clean = TOKEN.sub(_HIDDEN, clean) if is_token else clean
        return value if clean == decoded else quote(clean, safe="/:")

    # ------------------------------------------------------------------ substitutions in texts

    def _address_in_text(self, found: re.Match[str]) -> str:
        bare = found[0].rstrip(".,:;!?)]}…")  # punctuation after the URL is not part of it
        return self.address(bare) + found[0][len(bare) :]

    def _half_address(self, found: re.Match[str]) -> str:
        self.address(f"{found[0]}host")
        return f"{found[1]}://"

    def _header(self, found: re.Match[str]) -> str:
        name, joint, value = filter(None, found.groups())
        self.secrets += [value, value.split()[-1], *re.findall(r"=([^\s;,]+)", value)]
        return f"{name}{joint}{_HIDDEN}"

    def _other_header(self, found: re.Match[str]) -> str:
        return self._header(found) if is_secret(found[1], found[3]) else found[0]

    def _user(self, found: re.Match[str]) -> str:
        self.secrets.append(found[0].rpartition("@")[0].partition(":")[2])
        return ""

    def _user_in_text(self, found: re.Match[str]) -> str:
        return found[0] if is_file_name(found) else self._user(found)

    def _named_values(self, text: str, names: re.Pattern[str]) -> str:
        """Hide the values after names of secrets; one value may be nested in another."""
        shown, at = [], 0
        for found in names.finditer(text):
            if found.start() < at:
                continue
            sort = sort_of(found["name"])
            is_hidden = sort in ("signature", "credential") or TOKEN.match(text, found.end())
            is_doubtful = sort == "doubtful" and text[found.start() - 1 : found.start()] in (
                "?",
                "&",
            )
            if not is_hidden and not is_doubtful:
                continue
            if (value := _AFTER_NAME.match(text, found.end())) is not None:
                which = value.lastgroup or "value"
                self.secrets += [value[which], *_WORDS.findall(value[which])]
                shown += [
                    text[at : value.start(which)],
                    _HIDDEN if is_hidden else _digest(value[which]),
                ]
                at = value.end(which)
        return "".join([*shown, text[at:]])


def _has_secrets(base64: str) -> bool:
    try:
        content = a2b_base64(base64.replace("-", "+").replace("_", "/") + "==").decode()
    except ValueError:
        return False
    return _Scrubber(_DEEPEST).text(content) != content


@lru_cache(maxsize=1024)
def _slow_digest(secret: str, salt: str) -> str:
    whole = (secret.encode(errors="replace"), salt.encode(errors="replace"))
    return hashlib.pbkdf2_hmac("sha256", *whole, _ROUNDS, dklen=8).hex()


def _digest(value: str) -> str:
    """Eight hexadecimal digits of SHA-256: distinguishes two values without revealing them."""
    if _DIGEST.fullmatch(value):
        return value
    return "~" + hashlib.sha256(value.encode(errors="replace")).hexdigest()[:8]
