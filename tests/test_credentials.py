"""Credentials in addresses: detection, removal from addresses, redaction of texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvideo.credentials import (
    WebAddress,
    environment_secrets,
    redact,
    sort_of,
    without_credentials,
)

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://e.org/watch?v=a&list=PL1", "https://e.org/watch?v=a&list=PL1"),
        ("https://me:secret@e.org/x.mp4", "https://e.org/x.mp4"),
        ("https://ghp_0123456789abcd@e.org/x", "https://e.org/x"),
        ("https://me:p/w@e.org/x.mp4?a=1", "https://e.org/x.mp4"),
        ("https://me:p#w@e.org/x.mp4", "https://e.org/x.mp4"),
        ("https://me:p?w@e.org/x.mp4", "https://e.org/x.mp4"),
        ("https://me:secret@[broken/x?token=abc", "https://[broken/x"),
        ("https://e.org/@someone/v.mp4", "https://e.org/@someone/v.mp4"),
        ("https://e.org/x?v=a&token=abc", "https://e.org/x?v=a"),
        ("https://e.org/x?%74oken=abc&v=a", "https://e.org/x?v=a"),
        ("https://e.org/x?v=a;ACCESS_TOKEN=abc", "https://e.org/x?v=a"),
        ("https://e.org/x?playbackToken=abc", "https://e.org/x"),
        ("https://e.org/x?api_key=1&apikey=2&api-key=3&x-api-key=4", "https://e.org/x"),
        ("https://e.org/x?q=" + JWT, "https://e.org/x"),
        ("https://e.org/x?author=me&passage=3&compass=n", "https://e.org/x?author=me&passage=3&compass=n"),
        (
            "https://b.s3.amazonaws.com/k.mp4?X-Amz-Algorithm=A&X-Amz-Credential=C%2F1&X-Amz-Date=2"
            "&X-Amz-Signature=ff&versionId=7",
            "https://b.s3.amazonaws.com/k.mp4?versionId=7",
        ),
        (
            "https://a.blob.core.windows.net/c/v.mp4?sv=2021&se=2030-01-01&sr=b&sp=r&sig=Zm9v%3D",
            "https://a.blob.core.windows.net/c/v.mp4",
        ),
        (
            "https://d.cloudfront.net/v.mp4?Expires=17&Signature=abc&Key-Pair-Id=K",
            "https://d.cloudfront.net/v.mp4",
        ),
        ("https://e.org/x?sp=2&st=10", "https://e.org/x?sp=2&st=10"),
        ("https://e.org/x;jsessionid=9A?v=1", "https://e.org/x?v=1"),
        ("https://e.org/hdnts=exp=1~hmac=ab/x.m3u8", "https://e.org/hdnts=…/x.m3u8"),
        ("https://e.org/exp=1~acl=*~hmac=ab/x.m3u8", "https://e.org/…/x.m3u8"),
        ("https://e.org/~me/x.mp4", "https://e.org/~me/x.mp4"),
        ("https://e.org/x?sign=abc&vkey=d&assign=1&design=2", "https://e.org/x?assign=1&design=2"),
        ("https://e.org/x?resourcekey=abc&rlkey=d&tk=e&pin=1&id=v", "https://e.org/x?id=v"),
        ("https://e.org/x?ASPSESSIONIDQX=abc", "https://e.org/x"),
        ("https://e.org/x#access_token=abc&state=1", "https://e.org/x#state=1"),
        ("https://e.org/x.mp4#t=10,20", "https://e.org/x.mp4#t=10,20"),
        ("https://e.org/x?u=https%3A%2F%2Fme%3Asecret%40f.org%2Fy", "https://e.org/x?u=https://f.org/y"),
        ("https://e.org/x?nonce=abc&verify=def&captcha=1&SAMLResponse=x&v=1", "https://e.org/x?v=1"),
        ("https://e.org/x?cnonce=a&hmac_sha256=b&verify_token=c&v=1", "https://e.org/x?v=1"),
        ("https://e.org/go/me:secret@f.org/y", "https://e.org/go/f.org/y"),
        ("https://e.org/go/http:/me:secret@f.org/y", "https://e.org/go/http:/f.org/y"),
        ("https:/me:secret@e.org/x.mp4", "https://e.org/x.mp4"),
        ("https:me:secret@e.org/x.mp4", "https://e.org/x.mp4"),
        ("https:\\me:secret@e.org/x.mp4", "https://e.org/x.mp4"),
        ("https://e.org/x?q=a%20b&v=1%262", "https://e.org/x?q=a%20b&v=1%262"),
    ],
)  # fmt: skip
def test_credentials_are_removed_from_addresses(url: str, public: str) -> None:
    assert without_credentials(url) == public
    assert str(WebAddress(url)) == public
    assert repr(WebAddress(url)) == f"WebAddress({public!r})"


INSIDE = {
    "JSON": 'data={"id":7,"token":"SECRET99","v":"x"}',
    "JSON, encoded": "data=%7B%22id%22%3A7%2C%20%22token%22%3A%20%22SECRET99%22%7D",
    "JSON in JSON": 'data={"a":"{\\"apiKey\\":\\"SECRET99\\"}"}',
    "a number": 'data={"pin":73645537}',
    "a list": 'data={"tokens":["SECRET99"]}',
    "Python": "data={'password': 'SECRET99'}",
    "a name": '{"token":"SECRET99"}=1',
    "second of a list": 'data={"tokens":["a","SECRET99"]}',
    "inside of a list": 'data={"k":[{"v":1},{"token":"SECRET99"}]}',
    "without quotes": "data={token:SECRET99,v:2}",
    "a colon": "data=token:SECRET99",
    "in brackets": "a=1%26user[password]=SECRET99",
    "an element": "data=%3Ctoken%3ESECRET99%3C/token%3E",
    "another header": "h=X-Auth-Token:%20SECRET99",
    "another scheme": "h=Token%20SECRET99",
    "no scheme": "u=//me:SECRET99@f.org/y",
    "base64": "data=eyJ0b2tlbiI6IlNFQ1JFVDk5In0",
    "a header": "q=Bearer%20SECRET99",
    "a header with its name": "h=Authorization%3A+Basic+SECRET99",
    "a cookie": "h=Cookie%3A%20sid%3DSECRET99",
    "a parameter": "a=1%26token=SECRET99",
    "a parameter, encoded": "a=1%26token%3DSECRET99",
    "twice": "a=1%2526token%253DSECRET99",
    "four times": "a=1%25252526token%2525253DSECRET99",
    "an address": "u=https%3A%2F%2Fme%3ASECRET99%40f.org%2Fy",
    "an address in an address": "u=https://f.org/?u=https%3A%2F%2Ff.org%2F%3Ftoken%3DSECRET99",
    "addresses without end": "u=https://f.org/?" * 9 + "u=https://me:SECRET99@f.org/",
    "half an address": "u=https%3A%2Fme%3ASECRET99%40f.org",
}


@pytest.mark.parametrize("kind", INSIDE)
@pytest.mark.parametrize("where", ["query", "fragment", "path"])
def test_nested_encodings_of_credentials_are_found(kind: str, where: str) -> None:
    inside = INSIDE[kind]
    if where == "path":
        inside = inside.replace("/", "%2F").replace("?", "%3F")
    url = "https://e.org/" + {"query": f"x?v=1&{inside}", "fragment": f"x#{inside}&v=1"}.get(
        where, f"{inside.partition('=')[2]}/x"
    )
    if where == "path" and not inside.partition("=")[2].strip("1"):
        return
    address = WebAddress(url)
    for shown in (address.public, redact(url), redact(f"cannot open {url}: it is gone")):
        assert "SECRET99" not in shown
        assert "73645537" not in shown
        assert "IlNFQ1JFVDk5" not in shown
    assert without_credentials(address.public) == address.public
    assert "v=1" in address.public or where == "path"
    found = "73645537" if "73645537" in url else "SECRET99"
    assert found not in address.hide_in(f"HTTP 401: {found} is not known") or kind in (
        "base64",
        "addresses without end",
    )
    assert address.login, "two users of it are told apart"


def test_doubtful_values_are_replaced_by_a_digest() -> None:
    one, other = (without_credentials(f"https://e.org/x?key={key}") for key in ("alpha7", "beta77"))
    assert one != other
    assert "alpha7" not in one
    assert without_credentials("https://e.org/x#alpha7secret") != "https://e.org/x"
    assert "alpha7secret" not in without_credentials("https://e.org/x#alpha7secret")


def test_public_address_depends_on_video_keys_and_not_on_tokens() -> None:
    def public(rest: str) -> str:
        return without_credentials("https://e.org/watch" + rest)

    assert public("?v=a&token=1") != public("?v=b&token=1")
    assert public("?v=a&token=1") == public("?v=a&token=2") == public("?token=3&v=a")
    logins = {WebAddress(f"https://e.org/get?token={one}").login for one in ("", "a", "b")}
    assert len(logins) == 3, "a token may be all that names a video"
    signed = {WebAddress(f"https://e.org/get?v=1&sig={one}").login for one in ("a", "b")}
    assert signed == {""}, "a signature names nothing"


NAMES = ["token", "access_token", "sig", "X-Amz-Signature", "password", "apikey", "authToken"]
secrets = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x17E), min_size=6, max_size=24)
plain = st.text("abcdefghijklmnop", min_size=1, max_size=5)


@given(name=st.sampled_from(NAMES), secret=secrets, before=plain, after=plain)
def test_any_secret_is_removed_from_addresses_and_messages(
    name: str, secret: str, before: str, after: str
) -> None:
    from urllib.parse import quote

    quoted = quote(secret, safe="")
    url = f"https://me:{quoted}@e.org/{before}?v={after}&{name}={quoted}#{name}={quoted}"
    public = without_credentials(url)
    assert public == f"https://e.org/{before}?v={after}"
    assert without_credentials(public) == public
    address = WebAddress(url)
    text = f"ERROR: [generic] {before}: cannot open {url} (caused by '{quoted}' and {secret})"
    assert quoted not in address.hide_in(text)
    assert secret not in address.hide_in(text)
    assert "cannot open" in address.hide_in(text)


@settings(max_examples=60)
@given(st.text(max_size=80))
def test_redaction_of_any_text_is_idempotent(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
    public = without_credentials(f"http://{text}")
    assert isinstance(public, str)
    WebAddress(f"https://e.org/{text}").hide_in(text)


def test_messages_of_other_libraries_are_redacted() -> None:
    text = (
        "HTTP Error 401: https://me:hunter22@e.org/x?token=abcdef, see (http://f.org/?sig=12345). "
        "Authorization: Basic bWU6aHVudGVyMjI=\nset-cookie: sid=abcdef; path=/\n"
        "Bearer abcdefgh.ijkl access_token=abcdef user=3"
    )
    shown = redact(text)
    for secret in ("hunter22", "abcdef", "12345", "bWU6"):
        assert secret not in shown
    assert shown.startswith("HTTP Error 401: https://e.org/x, see (http://f.org/). ")
    assert "user=3" in shown
    assert redact("a plain line: 50 % of x=3, y@z.org") == "a plain line: 50 % of x=3, y@z.org"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("user:hunter22@host/path", "host/path"),
        ("no file `user:p%40ss@host:8080`", "no file `host:8080`"),
        ("user:hu:nt@er22@host/a.mp4", "host/a.mp4"),
        ("//user:hunter22@host", "//host"),
        ("'user:hunter22@[::1]:80/x' is gone", "'[::1]:80/x' is gone"),
        ("proxy=user:hunter22@10.0.0.1:3128", "proxy=10.0.0.1:3128"),
        ("e.org/x?v=1&key=hunter22", "e.org/x?v=1&key=~20d2fe5e"),
        *[(name, name) for name in (
            "12:30@home.mp4", "12:30@home", "/videos/front:door@home/x.mp4", "C:\\me@home\\x.mp4",
            "day1:cam@gate.mkv", "git@e.org:a/b", "a@b.org:12", "key=C major", "user@host/path",
        )],
    ],
)  # fmt: skip
def test_logins_without_a_scheme_are_redacted_and_file_names_kept(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_redaction_is_linear_in_the_text_length() -> None:
    # A quadratic search of these would take a minute.
    for piece in (
        "http:",
        "https://",
        "a=",
        "=a",
        "://@",
        "cookie: ",
        "eyJ.",
        "%3D",
        "a@",
        "a:b@",
        " a:",
        "basic ",
    ):
        redact(piece * 20_000)


def test_secret_environment_variables_are_found() -> None:
    environment = {
        "HF_TOKEN": "hf_secret0123456789",
        "https_proxy": "http://me:proxypw@proxy:3128",
        "ALL_PROXY": "socks5://token77@proxy",
        "HOME": "/home/me",
    }
    found = environment_secrets(environment)
    assert set(found) == {"hf_secret0123456789", "proxypw", "token77"}


def test_parameter_names_are_classified() -> None:
    assert sort_of("v") == "plain"
    assert sort_of("Expires") == "companion"
    assert sort_of("x-goog-signature") == "signature"
    assert sort_of("session") == "doubtful"
    assert sort_of("JSESSIONID") == "credential"
