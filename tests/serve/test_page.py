"""The served page: self-contained, and used in a real browser."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.apiserver import CIRCLE, running_server
from support.browser import Browser

from smolvideo.html_page import render_page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


def page(**values: object) -> str:
    known = {"model": "m", "max_frames": 50, "max_body_bytes": 1, "needs_key": 0, "is_nano": 0}
    return render_page("smolvideo.serve", "page.html", **{**known, **values})


def test_page_fetches_nothing_and_runs_its_own_script_alone() -> None:
    text = page()
    assert not re.findall(r"https?://|//cdn|src=\"(?!data)|<link|@import", text)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "default-src 'none'; script-src &#39;sha256-" in policy[1]
    assert "unsafe-inline" not in policy[1].split("script-src")[1].split(";")[0]
    assert "innerHTML" not in text
    assert "eval(" not in text


def test_name_of_a_model_is_escaped_in_the_page() -> None:
    text = page(model='"><script>alert(1)</script>\x1b[31m')
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


@pytest.mark.browser
def test_video_is_dropped_seen_asked_and_played_in_a_browser(
    browser: Browser, tmp_path: Path
) -> None:
    hostile = tmp_path / '<img src=x onerror="document.title=1">&\u202egpj.mp4'
    shutil.copy(CIRCLE, hostile)
    with running_server() as server:
        # wide and light: the frames that the model sees
        browser.resize(1100, 800)
        browser.open(server.url)
        browser.choose_files("#file", hostile)
        browser.wait_for("document.querySelectorAll('#strip button').length === 50")
        name = browser.value("document.getElementById('name').textContent")
        assert name == hostile.name.replace("\u202e", "")
        assert browser.value("document.querySelectorAll('#drop img').length") == 0
        assert browser.value("document.title") == "nano · smolvideo"
        assert "of 2,048 tokens" in browser.value("document.getElementById('cost').textContent")
        # the answer streams, and the next question is known but for its own words
        browser.value("document.getElementById('question').focus()")
        for place, (question, answer) in enumerate(
            [("What moves?", "a purple circle"), ("Which way does the circle move?", "right")]
        ):
            browser.type(question)
            browser.press("Enter")
            article = f"document.querySelectorAll('article')[{place}]"
            browser.wait_for(f"{article}?.querySelector('.aside').textContent")
            assert browser.value(f"{article}.querySelector('.answer').textContent") == answer
        assert "405 of them known" in browser.value(f"{article}.textContent")
        # a click plays from there, and the keyboard moves along the strip
        browser.value("document.querySelectorAll('#strip button')[30].click()")
        assert 3 < browser.value("state.video.currentTime") < 4.5
        browser.value("document.querySelector('#strip button').focus()")
        browser.press("ArrowRight")
        label = browser.value("document.activeElement.getAttribute('aria-label')")
        assert label.startswith("Play from 0:00")
        # times in an answer are buttons, and the rest of it is text
        browser.value(
            "linkTimes(document.querySelector('.answer'), 'at 0:03 <img src=x> and 1:02:03')"
        )
        links = "[...document.querySelectorAll('.answer button')].map((one) => one.textContent)"
        assert browser.value(links) == ["0:03", "1:02:03"]
        assert browser.value("document.querySelectorAll('.answer img').length") == 0
        # narrow and dark: nothing is wider than the window
        browser.resize(360, 740, dark=True)
        assert browser.value("document.documentElement.scrollWidth") <= 360
        assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(23, 22, 20)"
        browser.value("document.getElementById('theme').click()")
        assert browser.value("getComputedStyle(document.body).backgroundColor") != "rgb(23, 22, 20)"
    assert not [line for line in browser.console if '"level": "error"' in line]


@pytest.mark.browser
def test_page_shows_what_the_server_refuses(browser: Browser, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("hello, this is a text " * 10)
    with running_server(api_key="s3cret", max_body_bytes=1_000_000) as server:
        browser.open(server.url)
        assert browser.value("document.getElementById('key-row').hidden") is False
        alert = "document.getElementById('problem').textContent"
        for key, file, message in (
            ("wrong", CIRCLE, "the key is wrong"),
            ("s3cret", text, "this is a text, not a video"),
        ):
            browser.value(f"document.getElementById('key').value = '{key}'")
            browser.choose_files("#file", file)
            browser.wait_for(f"{alert}.includes('{message}')")
        big = tmp_path / "big.mp4"
        big.write_bytes(b"\0" * 1_000_000)
        browser.choose_files("#file", big)
        browser.wait_for(f"{alert}.includes('more than the 1 MB')")
