"""Credentials in addresses and messages, kept out of all that is shown or written.

Which parts of an address are credentials is decided by name and form, never by guessing at
randomness, so that the rules can be stated (README, "Security"):

- the user name and password before the host;
- signatures and what comes with them (``sig``, ``X-Amz-*``, ``Expires`` …): they permit the use of
  what the rest of the address names, and name nothing themselves;
- parameters whose name holds a word such as ``token``, ``password`` or ``api_key``, and values that
  have the form of a known kind of token, whatever their name;
- ``key``, ``code``, ``session`` and the like, and fragments: they may name the video as well, so a
  short digest stands in their place.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit, urlunsplit

Sort = Literal["plain", "signature", "companion", "credential", "doubtful"]

_SIGNATURES = frozenset(
    (
        *("gda", "hdnea", "hdntl", "hdnts", "hmac", "lsig", "sig", "sign", "signature", "vkey"),
        "wmsauthsign",
    )
)
_SIGNATURE_PREFIXES = ("xamz", "xgoog", "xoss", "xcos")
_COMPANIONS = frozenset(
    (
        *("awsaccesskeyid", "exp", "expires", "expiry", "googleaccessid", "keypairid"),
        *("ossaccesskeyid", "policy"),
        *("se", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "st", "sv"),
    )
)
"""Parameters that belong to a signature where there is one (CloudFront, S3, Azure's SAS)."""
_WORDS = frozenset(
    (
        *("apikey", "auth", "authkey", "authorization", "bearer", "cred", "credential"),
        *("credentials", "csrf", "jwt", "oauth", "otp", "pass", "passcode", "passphrase"),
        *("passw", "passwd", "password", "pin", "psw", "pw", "pwd", "resourcekey", "rlkey"),
        *("secret", "ticket", "tk", "token", "tokens", "xsrf"),
    )
)
_ENDINGS = (
    *("token", "secret", "password", "passwd", "signature", "apikey", "accesskey", "secretkey"),
    *("authkey", "privatekey", "sessid", "sessionid", "credential"),
)
_DOUBTFUL = frozenset(
    (
        "access",
        "code",
        "hash",
        "key",
        "login",
        "md5",
        "session",
        "sid",
        "user",
        "username",
        "userid",
    )
)
_TOKEN = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"  # JSON Web Token (RFC 7519)
    r"|(?:gh[opsur]|hf|sk|pk|rk|glpat|npm|pypi|github_pat|xox[abeoprs])[-_][\w-]{10,}"
    r"|A(?:KIA|SIA)[0-9A-Z]{16}|AIza[\w-]{20,}|ya29\.[\w-]{10,}"
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_PLAIN_FRAGMENT = re.compile(r"(?:(?:t|xywh|track)=[\w:.,%-]{0,40}|\d{1,6})?")
"""Media fragments (https://www.w3.org/TR/media-frags/), and numbers."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,15}:[/\\]{2}[^\s<>\"'`]+", re.IGNORECASE)
_HALF_ADDRESS = re.compile(
    r"\b(https?|ftps?|socks\w{0,3}|rtmps?|rtsp|wss?):[/\\]{0,3}[^\s/@<>\"'`]{1,200}@", re.IGNORECASE
)
_PAIR = re.compile(r"(?<![\w.-])([A-Za-z][\w.-]{1,40})(=|%3D)([^\s&;,'\"`<>]+)", re.IGNORECASE)
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)(['\"]?\s{0,4}[:=]\s{0,4})[^\r\n]+"
    r"|\b(basic|bearer)\s{1,4}[\w.~+/=-]{8,}",
    re.IGNORECASE,
)
_SMUGGLED = "__youtubedl_smuggle="
"""What yt-dlp hands from a list to the extractor of an entry: no part of the address."""
_HIDDEN = "…"
_DIGEST = re.compile(r"~[0-9a-f]{8}|…|%E2%80%A6")
"""What stands in the place of a value already: a public address is its own public address."""
_ROUNDS = 50_000
"""Of PBKDF2 (RFC 8018): a password cannot be tried out on names of files in no time."""
_SHORTEST_SECRET = 4
"""Characters. A shorter one would be found in the middle of ordinary words."""


def sort_of(name: str, value: str = "") -> Sort:
    """What a parameter of an address is, by its name and the form of its value.

    >>> sort_of("v", "dQw4w9WgXcQ"), sort_of("playback_token"), sort_of("X-Amz-Signature")
    ('plain', 'credential', 'signature')
    """
    joined = re.sub(r"[^a-z0-9]", "", name.lower())
    if joined in _SIGNATURES or joined.startswith(_SIGNATURE_PREFIXES):
        return "signature"
    if joined.endswith("signature"):
        return "signature"
    if joined.startswith("aspsessionid"):  # the server appends letters of its own
        return "credential"
    words = {word.lower() for word in _WORD.findall(name)}
    if joined.endswith(_ENDINGS) or joined in _WORDS or words & _WORDS:
        return "credential"
    if _TOKEN.fullmatch(value):
        return "credential"
    if joined in _COMPANIONS:
        return "companion"
    return "doubtful" if joined in _DOUBTFUL or words & _DOUBTFUL else "plain"


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
        return tuple(sorted(set(_secrets(self.request)), key=len, reverse=True))

    @cached_property
    def login(self) -> str:
        """What tells two users of the address apart: all credentials but signatures.

        Passwords and tokens in one line, empty where there are none. Only for a digest.
        """
        parts = _split(self.request)
        if parts is None:
            return self.request if self.public != self.request else ""
        fragment = "" if parts.fragment.startswith(_SMUGGLED) else parts.fragment
        segments = (one for one in parts.path.split("/") if _shown_segment(one) != one)
        pieces = (
            piece
            for piece, sort in (*_pieces(parts.query), *_pieces(fragment))
            if sort == "credential" or (sort == "plain" and [*_shown_pieces(piece)] != [piece])
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
    parts = _split(url)
    if parts is None:
        scheme, _, rest = url.partition(":")
        host = re.split(r"[?#]", rest.rpartition("@")[2].lstrip("/\\"))[0]
        return f"{scheme}://{host}"
    return urlunsplit(
        SplitResult(
            parts.scheme,
            parts.netloc.rpartition("@")[2],
            "/".join(_shown_segment(segment) for segment in parts.path.split("/")),
            "&".join(_shown_pieces(parts.query)),
            _shown_fragment(parts.fragment),
        )
    )


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without the credentials of the addresses, parameters and headers in it.

    ``secrets`` are known ones, which are taken out wherever and however they stand.
    """
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _HIDDEN)
    text = _ADDRESS.sub(lambda found: _in_text(found[0]), text)
    text = _HALF_ADDRESS.sub(r"\1://", text)
    text = _HEADER.sub(lambda found: f"{found[1] or found[3]}{found[2] or ' '}{_HIDDEN}", text)
    return _PAIR.sub(_without_value, text)


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
    """The parts; None where a password with ``/``, ``?`` or ``#`` may be spread over them."""
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        return None
    return None if "\\" in parts.netloc else parts


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


def _shown_pieces(query: str) -> Iterator[str]:
    for piece, sort in _pieces(query):
        name, equals, value = piece.partition("=")
        if sort == "doubtful":
            yield f"{name}={_digest(value)}" if value else piece
        elif sort == "plain":
            inside = unquote_plus(value)
            clean = redact(inside) if ":" in inside or _TOKEN.search(inside) else inside
            yield piece if clean == inside else f"{name}{equals}{quote(clean, safe='/:')}"


def _shown_fragment(fragment: str) -> str:
    if fragment.startswith(_SMUGGLED):
        return ""
    if _PLAIN_FRAGMENT.fullmatch(fragment):
        return fragment
    return "&".join(_shown_pieces(fragment)) if "=" in fragment else _digest(fragment)


def _shown_segment(segment: str) -> str:
    """Parameters inside a path: ``x;jsessionid=1``, ``hdnts=exp=1~hmac=2``, ``eyJ….….…``."""
    first, *parameters = segment.split(";")
    kept = [one for one in parameters if sort_of(*_named(one)) in ("plain", "companion")]
    name, equals, value = first.partition("=")
    if equals and sort_of(*_named(first)) in ("signature", "credential", "doubtful"):
        first = f"{name}={_digest(value)}" if sort_of(name) == "doubtful" else f"{name}={_HIDDEN}"
    elif any(sort_of(*_named(one)) == "signature" for one in first.split("~")[1:]):
        first = _HIDDEN  # Akamai's exp=1~acl=*~hmac=2
    elif _TOKEN.fullmatch(unquote(first)):
        first = _digest(first)
    return ";".join([first, *kept])


def _secrets(url: str) -> Iterator[str]:
    """Every credential in an address, as it stands and decoded."""
    parts = _split(url)
    if parts is None:
        yield from filter(None, re.split(r"[:/\\@?#&=]+", url.partition(":")[2].rpartition("@")[0]))
        return
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    found = [password or user]  # a name beside a password is none
    for piece, sort in _pieces(parts.query):
        value = piece.partition("=")[2]
        if sort != "plain":
            found.append(value)
        elif ":/" in unquote_plus(value):
            found += _secrets(unquote_plus(value))
    for segment in re.split(r"[/;]", parts.path):
        value = segment.partition("=")[2]
        if value and sort_of(*_named(segment)) not in ("plain", "companion"):
            found.append(value)
        elif signatures := [
            one.partition("=")[2]
            for one in segment.split("~")[1:]
            if sort_of(*_named(one)) == "signature"
        ]:
            found += signatures
        elif _TOKEN.fullmatch(unquote(segment)):
            found.append(segment)
    if not _PLAIN_FRAGMENT.fullmatch(parts.fragment):
        pieces = _pieces(parts.fragment) if "=" in parts.fragment else ()
        found += [piece.partition("=")[2] for piece, sort in pieces if sort != "plain"]
        found += [] if "=" in parts.fragment else [parts.fragment]
    for one in found:
        if _DIGEST.fullmatch(one):
            continue
        decode: Callable[[str], str]
        for decode in (str, unquote, unquote_plus):
            if decode(one):
                yield decode(one)


def _in_text(address: str) -> str:
    """An address found in a text, and the punctuation after it, which is none of its own."""
    bare = address.rstrip(".,:;!?)]}…")
    return without_credentials(bare) + address[len(bare) :]


def _without_value(found: re.Match[str]) -> str:
    name, equals, value = found.groups()
    if sort_of(name, value) in ("signature", "credential"):
        return f"{name}{equals}{_HIDDEN}"
    return found[0]


@lru_cache(maxsize=1024)
def _slow_digest(secret: str, salt: str) -> str:
    whole = (secret.encode(errors="replace"), salt.encode(errors="replace"))
    return hashlib.pbkdf2_hmac("sha256", *whole, _ROUNDS, dklen=8).hex()


def _digest(value: str) -> str:
    """Eight hexadecimal digits that tell two values apart and give neither away."""
    if _DIGEST.fullmatch(value):
        return value
    return "~" + hashlib.sha256(value.encode(errors="replace")).hexdigest()[:8]
