"""Golden screens of the chat, state by state at three sizes.

``SMOLVIDEO_UPDATE_GOLDEN=1 pytest tests/tui/test_snapshots.py`` rewrites all of them. Screen text
is stored as text, the main states with images and colours as SVG. Frames are drawn and figures
fixed, so every machine shows the same; two SVGs are in `docs/chat.md`.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import talking
from support.project import ROOT
from textual.pilot import Pilot
from tui.test_tui import text_of, until

from smolvideo.answer import Usage
from smolvideo.conversation import Attachment, Conversation, Turn
from smolvideo.conversation.resume import Startup
from smolvideo.errors import SourceError
from smolvideo.frames import FrameBatch, VideoMetadata
from smolvideo.progress import Progress
from smolvideo.sampling import FrameSampling
from smolvideo.source import VideoSource
from smolvideo.train.world.render import render_frame
from smolvideo.train.world.scene import Scene, SceneObject
from smolvideo.tui.app import ChatApp
from smolvideo.tui.image_view import PictureKind

GOLDEN = ROOT / "tests" / "golden" / "chat"
PICTURES = {"talk-120x36-dark": "chat.svg", "talk-120x36-light": "chat-light.svg"}
SIZES = [(80, 24), (120, 36), (200, 60)]
State = Callable[[ChatApp, Pilot[str]], Awaitable[None]]


# fmt: off
SCENE = Scene(
    "black",
    (
        SceneObject("triangle", "purple", 0.8186512300442975, 0.6003653577073932, 0.152736498534594,
              0.8186512300442975, 0.6003653577073932),
        SceneObject("square", "green", 0.5309926441033958, 0.22514225643060523, 0.18336917943075695,
              0.5309926441033958, 0.7846520011225131),
        SceneObject("cross", "orange", 0.17882390863968825, 0.3994192210144744, 0.20109790377371164,
              0.17882390863968825, 0.3994192210144744),
    ),
    aspect=1.5,
    tint=(-0.10099048196175087, 0.9829954289589606, -0.2206325183381701, -0.8774037765050591,
          0.0561142628634157, 0.903115229859776, -0.7032653411691654, -0.8948041034946668,
          -0.26288394892954936, -0.6874836948771037, -0.38408992732534886, 0.20647116584097147),
)
# fmt: on


def drawn_look(number: int = 1, *, window: tuple[float, float] | None = None) -> Attachment:
    """Return an attachment of fifty frames of the drawn world over ten seconds."""
    start, end = window or (0.0, 10.0)
    times = tuple(float(time) for time in np.linspace(start + 0.1, end - 0.1, 50))
    scene = SCENE
    images = np.stack([render_frame(scene, time / 10, 180, 120) for time in times])
    metadata = VideoMetadata(720, 480, 10.0, name="holiday.mp4", comment="drawn by smolvideo")
    source = VideoSource("holiday.mp4", Path("/films/holiday.mp4"), "video", "holiday.mp4")
    return Attachment(
        number, source, FrameBatch(images, times, metadata), FrameSampling(), turn=0, window=window
    )


def usage(tokens: int, seconds: float) -> Usage:
    return Usage(
        prompt_tokens=tokens,
        answer_tokens=24,
        context_tokens=2048,
        frames=50,
        seconds={"encode": seconds, "prefill": 0.02, "generate": 0.25},
        peak_memory_bytes=431_000_000,
    )


def held() -> Conversation:
    """Return a finished conversation that loads no model."""
    talk = Conversation(talking.settings(), talking.load)
    talk.open_checkpoint()
    talk.attachments.append(drawn_look())
    talk.turns += [
        Turn("What happens in this video?",
             "Things move on a plain background:\n\n- it begins at 0:01\n- and ends at **0:08**",
             usage=usage(640, 1.4), model="nano"),
        Turn("Which way does it move?", "To the right, until 0:06.",
             usage=usage(688, 0.0), model="nano"),
    ]  # fmt: skip
    return talk


async def begin(app: ChatApp, pilot: Pilot[str]) -> None:
    app.show_attachment(app.conversation.attachments[0])
    await pilot.pause(0.3)


async def answer(app: ChatApp, pilot: Pilot[str]) -> None:
    app.go_to(6.0)


async def talk(app: ChatApp, pilot: Pilot[str]) -> None:
    """Show nano's answers about these frames, with the seconds of one machine."""
    app.transcript.remove_children()
    first, second = (0.37, 0.30, 0.19), (0.0, 0.06, 0.02)
    said = [
        ("What is in this video?",
         "A green square moves down past an orange cross and a purple triangle on a black "
         "background.", 20, first),
        ("Which way does the square move?", "down", 2, second),
        ("How many things are there?", "three", 2, second),
    ]  # fmt: skip
    app.conversation.turns.clear()
    for place, (question, text, tokens, seconds) in enumerate(said):
        stages = dict(zip(("encode", "prefill", "generate"), seconds, strict=True))
        cost = replace(usage(604 + 24 * place, 0.0), answer_tokens=tokens, seconds=stages)
        turn = Turn(question, text, usage=cost, model="nano")
        app.conversation.turns.append(turn)
        app.transcript.add(turn, 10.0)
    app.go_to(6.0)


async def answering(app: ChatApp, pilot: Pilot[str]) -> None:
    view = app.transcript.begin("And then?", 10.0)
    await pilot.pause()
    view.show_text("Then everything stands")
    app.ticking.stop()
    app.stage_line.show(Progress("encode", 12, 50), waiting=1)


async def zoomed(app: ChatApp, pilot: Pilot[str]) -> None:
    app.conversation.attachments.append(drawn_look(2, window=(4.0, 6.0)))
    app.show_attachment(app.conversation.attachments[1])
    app.transcript.add_notice("zoomed to 00:04 to 00:06: 50 frames")
    app.go_to(5.0)


async def failed(app: ChatApp, pilot: Pilot[str]) -> None:
    error = SourceError(
        "no such file or folder: `holliday.mp4`", hint="did you mean `holiday.mp4`?"
    )
    app.transcript.say_error(error, about="/add")
    app.transcript.add(replace(app.conversation.turns[1], outcome="stopped", text="To the"), 10.0)


async def commands(app: ChatApp, pilot: Pilot[str]) -> None:
    await pilot.press("slash")


async def help_(app: ChatApp, pilot: Pilot[str]) -> None:
    await pilot.press("f1")


async def history(app: ChatApp, pilot: Pilot[str]) -> None:
    await pilot.press("ctrl+r")


STATES: dict[str, State] = {
    "talk": talk,
    "answer": answer,
    "answering": answering,
    "zoomed": zoomed,
    "failed": failed,
    "commands": commands,
    "help": help_,
    "history": history,
}


def shown(
    state: State, size: tuple[int, int], *, theme: str = "dark", pictures: PictureKind = "blocks"
) -> tuple[str, str]:
    """Return the screen in that state as text and as SVG."""

    async def run() -> tuple[str, str]:
        app = ChatApp(
            Startup(held()),
            theme=theme,
            pictures=pictures,
            history=("Who is it?", "What is on the table?"),
            begin=False,
        )
        async with app.run_test(size=size) as pilot:
            app.prompt.input.cursor_blink = False
            await begin(app, pilot)
            await until(pilot, lambda: "until 0:06" in text_of(app))
            await state(app, pilot)
            picture = await settled(app, pilot)
            return text_of(app), picture

    return asyncio.run(run())


async def settled(app: ChatApp, pilot: Pilot[str]) -> str:
    """Return the screen as SVG once it is stable: a busy machine draws later than others."""
    before = ""
    for _ in range(40):
        await pilot.pause(0.3)
        now = app.export_screenshot(title="smolvideo chat", simplify=True)
        if now == before:
            return now
        before = now
    raise AssertionError("the screen does not come to rest")


def check(path: Path, content: str) -> None:
    if os.environ.get("SMOLVIDEO_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    assert path.exists(), f"no {path.name}: look at it, and keep it with SMOLVIDEO_UPDATE_GOLDEN=1"
    assert content == path.read_text(encoding="utf-8"), f"{path.name} looks different"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", STATES)
def test_screen_text(name: str, size: tuple[int, int]) -> None:
    text, _ = shown(STATES[name], size)
    # Half-block images differ only in colour: the SVGs cover them.
    words = "\n".join(re.sub("▀+", "▀", line).rstrip() for line in text.splitlines())
    check(GOLDEN / f"{name}-{size[0]}x{size[1]}.txt", words + "\n")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(
    ("name", "theme"), [("talk", "dark"), ("talk", "light"), ("zoomed", "light")]
)
def test_screen_images_and_colours(name: str, theme: str, size: tuple[int, int]) -> None:
    _, svg = shown(STATES[name], size, theme=theme)
    key = f"{name}-{size[0]}x{size[1]}-{theme}"
    in_readme = PICTURES.get(key)
    check(ROOT / ".github" / in_readme if in_readme else GOLDEN / f"{key}.svg", svg + "\n")


@pytest.mark.parametrize("pictures", ["shades", "none"])
def test_screen_without_colour(pictures: PictureKind) -> None:
    text, _ = shown(answer, (80, 24), pictures=pictures)
    check(GOLDEN / f"answer-80x24-{pictures}.txt", text + "\n")


def test_chat_page_shows_two_snapshots() -> None:
    page = (ROOT / "docs" / "chat.md").read_text(encoding="utf-8")
    assert all(f".github/{name}" in page for name in PICTURES.values())
