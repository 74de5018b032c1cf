"""Credentials in addresses and messages, kept out of all that is shown or written.

Which parts of an address are credentials is decided by name and form, never by guessing at
randomness, so that the rules can be stated (README, "Security"):

- the user name and password before the host;
- signatures and what comes with them (``sig``, ``X-Amz-*``, ``Expires`` …): they permit the use of
  what the rest of the address names, and name nothing themselves;
- parameters whose name holds a word such as ``token``, ``password`` or ``api_key``, and values that
  have the form of a known kind of token, whatever their name;
- the same inside a value, however often it is encoded: addresses, parameters, headers and JSON;
- ``key``, ``code``, ``session`` and the like, and fragments: they may name the video as well, so a
  short digest stands in their place.
"""

import hashlib
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit, urlunsplit

from smolvideo.credential_names import TOKEN, Sort, is_secret, sort_of

__all__ = [
    "WebAddress",
    "environment_secrets",
    "redact",
    "sort_of",
    "without_credentials",
    "without_secrets",
]

_PLAIN_FRAGMENT = re.compile(r"(?:(?:t|xywh|track)=[\w:.,%-]{0,40}|\d{1,6})?")
"""Media fragments (https://www.w3.org/TR/media-frags/), and numbers."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,15}:[/\\]{2}[^\s<>\"'`]+", re.IGNORECASE)
_HALF_ADDRESS = re.compile(
    r"\b(https?|ftps?|socks\w{0,3}|rtmps?|rtsp|wss?)(?::[/\\]{0,3}|[/\\]{1,3})"
    r"[^\s/@<>\"'`]{1,200}@",
    re.IGNORECASE,
)
"""What was meant as an address with a password, a slash or the colon left out."""
_NAME = r"(?<![\w.-])(?P<name>[A-Za-z][\w.-]{0,40}(?:\[\w{0,20}\]){0,3})"
_NAMES_IN_TEXT = re.compile(
    rf"""{_NAME}(?:=|%3D|\\{{0,3}}["']\s{{0,4}}:\s{{0,4}})""", re.IGNORECASE
)
"""``name=``, or ``"name":`` as in JSON."""
_NAMES_IN_VALUE = re.compile(
    rf"""{_NAME}[\]"'\\]{{0,4}}(?:\s{{0,4}}[:=]\s{{0,4}}|%3D|>)""", re.IGNORECASE
)
"""The same without quotes or with more of them, ``name[]=``, and ``<name>``."""
_AFTER_NAME = re.compile(
    r"""[\[{](?P<inner>[^\]}]{1,9999})|\\{0,3}["']?(?P<value>[^\s&;,"'`<>\\]{1,9999})"""
)
"""A list or an object, or one word; inside of a string of JSON, quotes have backslashes."""
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)(['\"]?\s{0,4}[:=]\s{0,4})([^\r\n]+)"
    r"|\b(basic|bearer)(\s{1,4})([\w.~+/=-]{8,})",
    re.IGNORECASE,
)
_OTHER_HEADER = re.compile(
    r"(?<![\w.-])([A-Za-z]{1,20}(?:-[A-Za-z]{1,20}){1,6})(\s{0,4}:\s{0,4})([^\r\n]+)"
)
_SCHEME = re.compile(r"\b(token|apikey|digest|negotiate|ntlm)(\s{1,4})(\S{6,})", re.IGNORECASE)
"""As ``Bearer``, but words of plain texts, too."""
_USER = re.compile(r"(?<![\w@.])[\w.%+~-]{1,64}:[^\s/@:\"'<>]{1,200}@(?=[\w\[-])")
"""A name and a password before a host, in an address inside of an address."""
_WORDS = re.compile(r"[^\s\"',:\\()\[\]{}<>]+")
"""Of a hidden value: each may be said alone in an error."""
_INNER_BASE64 = re.compile(r"eyJ[\w+/=-]{8,}")
"""JSON in base64."""
_SMUGGLED = "__youtubedl_smuggle="
"""What yt-dlp hands from a list to the extractor of an entry: no part of the address."""
_HIDDEN = "…"
_DIGEST = re.compile(r"~[0-9a-f]{8}|…|%E2%80%A6")
"""What stands in the place of a value already: a public address is its own public address."""
_ROUNDS = 50_000
"""Of PBKDF2 (RFC 8018): a password cannot be tried out on names of files in no time."""
_MIN_SECRET = 4
"""Characters. A shorter one would be found in the middle of ordinary words."""
_SIMPLE = re.compile(r"[\w.~-]{0,20}")
_DEEPEST = 3
"""Of addresses inside of addresses; what is further inside is hidden whole."""
_MAX_DECODINGS = 5
"""Of an encoded value. What is encoded more often no server has asked for."""


@dataclass(frozen=True, repr=False)
class WebAddress:
    """An address whose credentials serve the request alone: ``str`` and ``repr`` are without."""

    request: str
    """What is requested, as it was typed. Never shown, never written."""

    def __str__(self) -> str:
        return self.public

    def __repr__(self) -> str:
        return f"WebAddress({self.public!r})"

    @cached_property
    def public(self) -> str:
        """The address without credentials; the same for all signatures and tokens of a video."""
        return without_credentials(self.request)

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """The credentials themselves, as they were typed and decoded, the longest first."""
        scrubber = _Scrubber()
        scrubber.address(self.request)
        found = (one for one in scrubber.secrets if one and not _DIGEST.fullmatch(one))
        every = {decode(one) for one in found for decode in (str, unquote, unquote_plus)}
        return tuple(sorted(filter(None, every), key=len, reverse=True))

    @cached_property
    def login(self) -> str:
        """What tells two users of the address apart: all credentials but signatures.

        Passwords and tokens in one line, empty where there are none. Only for a digest.
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
        """Sixteen hexadecimal digits of ``login``, slow to make; empty where there is none."""
        parts = _split(self.request)
        return _slow_digest(self.login, parts.hostname or "" if parts else "") if self.login else ""

    @property
    def name(self) -> str:
        """``public``, and something that tells it from the same address with another login."""
        return f"{self.public}#~{self.login_digest[:8]}" if self.login else self.public

    def hide_in(self, text: str) -> str:
        """``text`` without this address's credentials, nor those of any other address in it."""
        return redact(text, self.secrets)


def without_credentials(url: str) -> str:
    """``https://name:secret@host/x?v=1&token=abc`` → ``https://host/x?v=1``.

    What is no valid address keeps nothing before its last ``@`` and no query.
    """
    return _Scrubber().address(url)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without the credentials of the addresses, parameters and headers in it.

    ``secrets`` are known ones, which are taken out wherever and however they stand.
    """
    for secret in secrets:
        if len(secret) >= _MIN_SECRET:
            text = text.replace(secret, _HIDDEN)
    return _Scrubber().text(text)


def environment_secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Tokens of the model hub and passwords of proxies among the variables."""
    found: list[str] = []
    for name, value in environment.items():
        upper = name.upper()
        if upper.endswith("_PROXY") and "@" in value:
            found += WebAddress(value if "://" in value else f"http://{value}").secrets
        elif upper.startswith(("HF_", "HUGGING")) and upper.endswith("TOKEN") and value:
            found.append(value)
    return tuple(sorted(set(found), key=len, reverse=True))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables for a process that has to do with strangers' bytes: no tokens, no passwords."""
    return {
        name: value
        for name, value in environment.items()
        if sort_of(name) not in ("credential", "signature") and redact(value) == value
    }


def _split(url: str) -> SplitResult | None:
    """The parts; None where a password with ``/``, ``?`` or ``#`` may be spread over them, or where
    there is no host, for want of a slash, but an ``@``."""
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        return None
    is_half = not parts.netloc and "@" in url and parts.scheme != ""
    return None if is_half or "\\" in parts.netloc else parts


def _pieces(query: str) -> Iterator[tuple[str, Sort]]:
    """The ``name=value`` pieces of a query as they stand, and what each is."""
    pieces = [piece for piece in re.split(r"[&;]", query) if piece]
    named = [_named(piece) for piece in pieces]
    signed = any(sort_of(*one) == "signature" for one in named)
    for piece, one in zip(pieces, named, strict=True):
        sort = sort_of(*one)
        yield piece, ("signature" if signed else "plain") if sort == "companion" else sort


def _named(piece: str) -> tuple[str, str]:
    name, _, value = piece.partition("=")
    # What is encoded twice is decoded twice: it is a name all the same.
    return unquote_plus(unquote_plus(name)), unquote_plus(value)


class _Scrubber:
    """Takes credentials out of texts and addresses, and collects them in ``secrets``.

    A value may hold an address, whose values may hold others: ``depth`` is how many stand around.
    """

    def __init__(self, depth: int = 0, secrets: list[str] | None = None) -> None:
        self._depth = depth
        self.secrets: list[str] = [] if secrets is None else secrets

    def text(self, text: str) -> str:
        """A text of any kind without the credentials in it."""
        text = _ADDRESS.sub(self._address_in_text, text)
        text = _HALF_ADDRESS.sub(self._half_address, text)
        text = _OTHER_HEADER.sub(self._other_header, _HEADER.sub(self._header, text))
        return self._named_values(text, _NAMES_IN_TEXT)

    def value(self, text: str) -> str:
        """A value of an address, decoded: more in it has a name than in a text."""
        text = _USER.sub(self._user, _SCHEME.sub(self._header, self.text(text)))
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
        self.secrets.append(password or name)  # a name beside a password is none
        path = "/".join(map(self.segment, parts.path.split("/")))
        query = "&".join(self.pieces(parts.query))
        fragment = self._fragment(parts.fragment)
        return urlunsplit(SplitResult(parts.scheme, host, path, query, fragment))

    def pieces(self, query: str) -> Iterator[str]:
        """The ``name=value`` pieces of a query that may be shown, as they may."""
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
        """A part of a path: ``x;jsessionid=1``, ``hdnts=exp=1~hmac=2``, ``eyJ….….…``."""
        first, *parameters = segment.split(";")
        kept = []
        for one in parameters:
            if sort_of(*_named(one)) in ("plain", "companion"):
                kept.append(one)
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
        return ";".join([first, *kept])

    def _fragment(self, fragment: str) -> str:
        if fragment.startswith(_SMUGGLED) or _PLAIN_FRAGMENT.fullmatch(fragment):
            return "" if fragment.startswith(_SMUGGLED) else fragment
        if "=" in fragment:
            return "&".join(self.pieces(fragment))
        self.secrets.append(fragment)
        return _digest(fragment)

    def _inside(self, value: str) -> str:
        """A value without the credentials inside of it; as it stands where there are none.

        It is decoded as often as it is encoded.
        """
        if _SIMPLE.fullmatch(value):
            return value
        decoded, before = value, None
        for _ in range(_MAX_DECODINGS):
            if decoded == before:
                break
            decoded, before = unquote_plus(decoded), decoded
        inner = _Scrubber(self._depth + 1, self.secrets)
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

    # ------------------------------------------------------------------ what is found in a text

    def _address_in_text(self, found: re.Match[str]) -> str:
        bare = found[0].rstrip(".,:;!?)]}…")  # and the punctuation after it, none of its own
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

    def _named_values(self, text: str, names: re.Pattern[str]) -> str:
        """The values behind names that say what they are; one may lie in the value of another."""
        shown, at = [], 0
        for found in names.finditer(text):
            if found.start() < at:
                continue
            if not is_secret(found["name"], "") and not TOKEN.match(text, found.end()):
                continue
            if (value := _AFTER_NAME.match(text, found.end())) is not None:
                which = value.lastgroup or "value"
                self.secrets += [value[which], *_WORDS.findall(value[which])]
                shown += [text[at : value.start(which)], _HIDDEN]
                at = value.end(which)
        return "".join([*shown, text[at:]])


def _has_secrets(base64: str) -> bool:
    try:
        content = b64decode(base64.rstrip("=") + "==", altchars=b"-_").decode()
    except ValueError:
        return False
    return _Scrubber(_DEEPEST).text(content) != content


@lru_cache(maxsize=1024)
def _slow_digest(secret: str, salt: str) -> str:
    whole = (secret.encode(errors="replace"), salt.encode(errors="replace"))
    return hashlib.pbkdf2_hmac("sha256", *whole, _ROUNDS, dklen=8).hex()


def _digest(value: str) -> str:
    """Eight hexadecimal digits that tell two values apart and give neither away."""
    if _DIGEST.fullmatch(value):
        return value
    return "~" + hashlib.sha256(value.encode(errors="replace")).hexdigest()[:8]
