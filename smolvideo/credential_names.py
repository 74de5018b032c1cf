"""Classification of parameters as credentials, by their names and the form of their values, and of
user names with passwords."""

import re
from typing import Literal

from smolvideo.media_types import IMAGE_SUFFIXES, VIDEO_SUFFIXES

Sort = Literal["plain", "signature", "companion", "credential", "doubtful"]

_SIGNATURES = frozenset(
    (
        *("gda", "hdnea", "hdntl", "hdnts", "hmac", "lsig", "sig", "sign", "signature", "vkey"),
        "wmsauthsign",
    )
)
_SIGNATURE_PREFIXES = ("hmac", "xamz", "xgoog", "xoss", "xcos")
_COMPANIONS = frozenset(
    (
        *("awsaccesskeyid", "exp", "expires", "expiry", "googleaccessid", "keypairid"),
        *("ossaccesskeyid", "policy"),
        *("se", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "st", "sv"),
    )
)
"""Parameters that accompany a signature (CloudFront, S3, Azure's SAS)."""
_WORDS = frozenset(
    (
        *("apikey", "assertion", "auth", "authkey", "authorization", "bearer", "captcha", "cookie"),
        *("cookies", "cred", "credential", "credentials", "csrf", "jwt", "nonce", "oauth", "otp"),
        *("pass", "passcode", "passkey", "passphrase", "passw", "passwd", "password", "pin", "psk"),
        *("psw", "pw", "pwd", "recaptcha", "resourcekey", "rlkey", "saml", "samlart"),
        *("samlrequest", "samlresponse", "secret", "secrets", "sso", "ticket", "tk", "token"),
        *("tokens", "totp", "verification", "verifier", "verify", "xsrf"),
    )
)
_ENDINGS = (
    *("token", "secret", "password", "passwd", "signature", "apikey", "accesskey", "secretkey"),
    *("authkey", "privatekey", "sessid", "sessionid", "credential", "nonce", "csrf", "jwt"),
)
_DOUBTFUL = frozenset(
    (
        *("access", "challenge", "code", "hash", "invitation", "invite", "key", "license", "login"),
        *("md5", "session", "sid", "user", "username", "userid"),
    )
)
TOKEN = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"  # JSON Web Token (RFC 7519)
    r"|(?:gh[opsur]|hf|sk|pk|rk|glpat|npm|pypi|github_pat|xox[abeoprs])[-_][\w-]{10,}"
    r"|A(?:KIA|SIA)[0-9A-Z]{16}|AIza[\w-]{20,}|ya29\.[\w-]{10,}"
)
HALF_ADDRESS = re.compile(
    r"\b(https?|ftps?|socks\w{0,3}|rtmps?|rtsp|wss?)(?::[/\\]{0,3}|[/\\]{1,3})"
    r"[^\s/@<>\"'`]{1,200}@",
    re.IGNORECASE,
)
"""A malformed URL with a password: a slash or the colon is missing."""
USER = re.compile(r"(?<![\w@.])[\w.%+~-]{1,64}:[^\s/@:\"'<>]{1,200}@(?=[\w\[-])")
"""User name and password before a host, in a nested URL without a scheme."""
USER_IN_TEXT = re.compile(
    r"(?<![^\s\"'`(<\[{=,;|/])(?<![^/]/)(?<!^/)(?!\d+:\d+@)"
    r"[\w.%+~-]{1,64}:[^\s/\\\"'`<>]{1,200}@"
    r"(?=(?P<host>[\w-][\w.-]{0,253}|\[[0-9a-f:.]{2,45}\])(?P<rest>:\d|[/?#])?)",
    re.IGNORECASE,
)
"""``user:password@host`` in free text: a word of its own or after ``//``, but not a time before a
name (``12:30@home``)."""
_FILE_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
"""``a:b@home.mp4`` is a file name."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def sort_of(name: str, value: str = "") -> Sort:
    """Classify a URL parameter by its name and the form of its value.

    >>> sort_of("v", "dQw4w9WgXcQ"), sort_of("playback_token"), sort_of("X-Amz-Signature")
    ('plain', 'credential', 'signature')
    """
    joined = re.sub(r"[^a-z0-9]", "", name.lower())
    if joined in _SIGNATURES or joined.startswith(_SIGNATURE_PREFIXES):
        return "signature"
    if joined.endswith("signature"):
        return "signature"
    if joined.startswith("aspsessionid"):  # the server appends random letters
        return "credential"
    words = {word.lower() for word in _WORD.findall(name)}
    if joined.endswith(_ENDINGS) or joined in _WORDS or words & _WORDS:
        return "credential"
    if TOKEN.fullmatch(value):
        return "credential"
    if joined in _COMPANIONS:
        return "companion"
    return "doubtful" if joined in _DOUBTFUL or words & _DOUBTFUL else "plain"


def is_secret(name: str, value: str) -> bool:
    """Return whether a value under that name is always hidden."""
    return sort_of(name, value) in ("signature", "credential")


def is_file_name(found: re.Match[str]) -> bool:
    """Return whether a match of ``USER_IN_TEXT`` is the name of a media file."""
    suffix = "." + found["host"].lower().rpartition(".")[2]
    return suffix in _FILE_SUFFIXES and found["rest"] is None
