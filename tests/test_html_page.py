"""HTML pages: text of files, datasets and models is escaped; only the page's own script runs."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from evals.test_reports import INFO
from jinja2 import UndefinedError
from support.project import ROOT

from smolvideo.conversation.export import export
from smolvideo.conversation.turns import Settings, Turn
from smolvideo.evals.item import EvalItem
from smolvideo.evals.report_files import html_report
from smolvideo.evals.run_folder import EvalAnswer, EvalVideo, RunFolder, clip_id
from smolvideo.html_page import render_page
from smolvideo.records import SourceRecord
from smolvideo.summaries.formats import to_html
from smolvideo.summaries.record_log import Chapter, SummaryRecord

HOSTILE = [
    "</script><script>alert(1)</script>",
    "</title></style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "'><svg/onload=alert(1)>",
    "<!--<script>",
    "javascript:alert(1)",
    "%BODY% %TITLE% {title} %s {0}",
    "{{ 7*7 }}{% raw %}{# gone #}${7*7}",
    "line\u2028separator\u2029 \x00\x1b[31m\x9b0m",
    "\u202eesrever \u2066 \u200f \u061c",
    "half \udcff &amp; &lt;b&gt;",
]
SHOWN = [
    text.replace("\u2028", r"\u2028").replace("\u2029", r"\u2029").replace("\x00", r"\x00")
    .replace("\x1b", r"\x1b").replace("\x9b", r"\x9b").replace("\u202e", r"\u202e")
    .replace("\u2066", r"\u2066").replace("\u200f", r"\u200f").replace("\u061c", r"\u061c")
    .replace("\udcff", r"\udcff")
    for text in HOSTILE
]  # fmt: skip
"""The escaped form of each hostile text."""

ACTS = re.compile("[\u2028\u2029\u202e\u2066\u200f\u061c\x00\x1b\x9b\udcff]")
CASES = list(zip(HOSTILE, SHOWN, strict=True))


class Page(HTMLParser):
    """Parser that collects a page's tags with attributes, its scripts and all its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif not self._inside:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check(page: Page, scripts: int) -> None:
    """Check that a page has only its own markup and a policy that allows only its own script."""
    assert len(page.named("script")) == scripts
    for tag, attributes in page.tags:
        assert tag not in ("svg", "iframe", "object", "embed", "link", "base")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "src"):
            assert not re.match(r"\s*(javascript:|data:text)", attributes.get(name) or "", re.I)
    assert all(
        (image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.named("img")
    )
    (policy,) = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    if not scripts:
        assert policy is not None
        assert "script-src" not in policy
        return
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in " ".join(policy.split())
    assert policy.startswith("default-src 'none'")
    assert "49" not in page.text.replace("{{ 7*7 }}", "")


def summary(hostile: str, video: Path) -> SummaryRecord:
    return SummaryRecord(
        path=str(video),
        source=SourceRecord(hostile, hostile, "video"),
        style="brief",
        text=f"Before {hostile} after\n\nSecond paragraph",
        duration_seconds=10.0,
        chapters=(Chapter(0, 4.5, hostile, hostile), Chapter(4.5, 10, "Then", "A circle.")),
        model=hostile,
        frames=8,
    )


@pytest.mark.parametrize(("hostile", "shown"), CASES)
def test_summary_text_is_escaped(hostile: str, shown: str) -> None:
    page = Page(to_html(summary(hostile, Path("/nowhere") / "party.mp4"), Path("/nowhere/x.html")))
    check(page, scripts=1)
    assert f"Before {shown} after\n\nSecond paragraph" in page.text
    assert page.text.count(shown) >= 3, "the text, and title and text of a chapter"
    texts = [tag for tag, attributes in page.tags if attributes.get("dir") == "auto"]
    assert texts == ["p", "p", "p"]
    assert len(page.named("bdi")) == 3, "the name, and the titles of two chapters"


def test_file_named_like_a_template_has_its_page(tmp_path: Path) -> None:
    for name in ("%BODY%.mp4", "{{ 7*7 }}.mp4", "a'b\"c <d>&.mp4", "javascript:alert(1).mp4"):
        video = tmp_path / name
        video.symlink_to(ROOT / "samples" / "square_then_circle.mp4")
        page = Page(to_html(summary("%BODY%", video), tmp_path / "page.html"))
        check(page, scripts=1)
        assert len(page.named("img")) >= 10
        (shown,) = page.named("video")
        # Relative, quoted: no scheme, and the browser finds the file.
        assert ":" not in (shown["src"] or ":")
        assert page.named("a")[0]["href"] == f"{shown['src']}#t=0.400"


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://example.org/v?a=1&b=\"2\"", "https://example.org/v?a=1&b=\"2\"#t=4.500"),
        ("https://example.org/v#t=9", "https://example.org/v#t=4.500"),
        ("javascript:alert(1)", None),
        (" JaVaScRiPt:alert(1)", None),
        ("data:text/html,<script>alert(1)</script>", None),
        ("file:///etc/passwd", None),
        ("http://[", None),
        ("vbscript:x", None),
    ],
)  # fmt: skip
def test_links_are_http_only(url: str, link: str | None) -> None:
    record = summary("x", Path("/nowhere"))
    record = replace(record, path=url, source=replace(record.source, url=url))
    page = Page(to_html(record, Path("/nowhere/x.html")))
    check(page, scripts=1)
    links = [one["href"] for one in page.named("a")]
    assert (link in links) if link else (links == [])
    assert len(page.named("video")) == (1 if link else 0)


def hostile_run(folder: Path, hostile: str) -> RunFolder:
    info = replace(
        INFO,
        benchmark={**INFO.benchmark, "source": hostile},
        model={**INFO.model, "name": hostile, "revision": hostile},
        notices=(hostile,),
    )
    item = EvalItem(
        hostile,
        (hostile,),
        f"Why {hostile}?",
        ("one", hostile),
        1,
        {hostile: hostile, "category": hostile, "hard_split": hostile},
        subtitles=hostile,
    )
    run = RunFolder.open(folder, info, [item])
    with run.answer_writer() as writer:
        writer.write(EvalAnswer(hostile, "main", hostile, text=hostile, choice=0, how="letter"))
        writer.write(EvalAnswer(hostile, "blind", hostile, error=hostile, error_kind="model"))
    with run.video_writer() as writer:
        look = clip_id(item)
        writer.write(EvalVideo(look, hostile, hostile, strip="x", notices=(hostile,)))
    run.save_thumbnails(f"{look}.jpg", b"not much of a picture")
    return run


@pytest.mark.parametrize(("hostile", "shown"), CASES)
def test_eval_report_text_is_escaped(tmp_path: Path, hostile: str, shown: str) -> None:
    text = html_report(hostile_run(tmp_path / "run", hostile))
    page = Page(text)
    check(page, scripts=3)
    assert not ACTS.search(text)
    data = json.loads(page.scripts[0])
    (item,) = data["items"]
    assert (item["id"], item["question"], item["options"]) == (
        hostile,
        f"Why {hostile}?",
        ["one", hostile],
    )
    assert item["answers"]["main"][3] == item["answers"]["blind"][6] == hostile
    assert item["groups"][hostile] == hostile
    assert not re.search(r"[<>&]", page.scripts[0])
    assert shown in page.text
    rows = [attributes for tag, attributes in page.tags if tag == "th"]
    assert len(page.named("bdi")) == len(rows) == 6, "two conditions, three groups and two crossed"


@pytest.mark.parametrize(("hostile", "shown"), CASES)
def test_conversation_text_is_escaped(hostile: str, shown: str) -> None:
    turns = [
        Turn(f"Why {hostile}?", f"It is 0:02 {hostile}\nand more"),
        Turn("And?", "", "failed", error=f"no {hostile}"),
    ]
    text = export(".html", Settings(hostile), [], turns)
    page = Page(text)
    check(page, scripts=0)
    assert f"It is 0:02 {shown}\nand more" in page.text
    assert f"no {shown}" in page.text
    assert not ACTS.search(text)


def test_thumbnail_strip_linked_outside_the_run_is_left_out(tmp_path: Path) -> None:
    run = hostile_run(tmp_path / "run", "x")
    secret = tmp_path / "secret"
    secret.write_bytes(b"nobody's business")
    (strip,) = (run.folder / "frames").iterdir()
    strip.unlink()
    strip.symlink_to(secret)
    text = html_report(run)
    assert base64.b64encode(secret.read_bytes()).decode() not in text
    assert len(Page(text).named("script")) == 2


def test_undefined_template_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="source_name"):
        render_page("smolvideo.summaries", "page.html")


def test_page_scripts_write_no_markup() -> None:
    for script in scripts():
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)


def scripts() -> Iterator[Path]:
    found = sorted((ROOT / "smolvideo").rglob("*.js"))
    assert {path.name for path in found} == {"page.js", "report.js"}
    yield from found
