"""The full-screen chat, driven key by key at three terminal sizes, with nano as its model."""

import asyncio
import re
import shutil
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import talking, tinymodels
from support.talking import ANSWER, CIRCLE, SAMPLES, SUBTITLED, TRIANGLE, WHAT, WHERE_TO
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import OptionList

from smolvideo.conversation import Conversation, Settings
from smolvideo.conversation.commands import in_chat
from smolvideo.conversation.resume import Startup, resume
from smolvideo.conversation.store import create, latest_id, reopen
from smolvideo.conversation.turns import Turn
from smolvideo.engines import Engine, GenerationOptions, NativeEngine, load_engine
from smolvideo.errors import SourceError
from smolvideo.sampling import FrameSampling
from smolvideo.tui.app import ChatApp
from smolvideo.tui.image_view import PictureKind, TextImage
from smolvideo.tui.transcript_view import TurnView, error_text, with_links

SIZES = [(80, 24), (120, 36), (200, 60)]
Scenario = Callable[[ChatApp, Pilot[str]], Awaitable[None]]


def new(*sources: str | Path, max_frames: int = 16) -> Startup:
    talk = Conversation(talking.settings(max_frames), talking.load)
    return Startup(talk, tuple(map(str, sources)))


def drive(
    start: Startup,
    scenario: Scenario,
    *,
    size: tuple[int, int] = (100, 30),
    pictures: PictureKind = "blocks",
    history: tuple[str, ...] = (),
    no_colour: bool = False,
) -> str | None:
    """Run the app, let ``scenario`` press its keys, and return the app's result."""

    async def run() -> str | None:
        app = ChatApp(start, pictures=pictures, history=history, no_colour=no_colour)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: not app.asking.is_working)
            await scenario(app, pilot)
        return app.return_value

    return asyncio.run(run())


async def until(pilot: Pilot[str], condition: Callable[[], object], seconds: float = 300) -> None:
    """Let the app run until ``condition`` holds; AssertionError after a long time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never came; the screen:\n{text_of(pilot.app)}"
        await pilot.pause(0.01)
    await pilot.pause()


def text_of(app: object) -> str:
    """Return the screen as plain text."""
    assert isinstance(app, ChatApp)
    lines = app.screen._compositor.render_strips(app.size)
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in lines)


async def enter(pilot: Pilot[str], line: str) -> None:
    """Type a line, press Enter, and wait until its work is done."""
    assert isinstance(pilot.app, ChatApp)
    app = pilot.app
    app.prompt.set_text(line)
    await pilot.pause()
    app.prompt.close()
    await pilot.press("enter")
    await pilot.pause()
    await until(pilot, lambda: not app.asking.is_working)
    await pilot.pause(0.1)


@pytest.mark.parametrize("size", SIZES)
def test_questions_are_answered_on_screen(size: tuple[int, int]) -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        assert "triangle_down.mp4" in text_of(app)
        await enter(pilot, WHAT)
        assert app.conversation.turns[0].text == ANSWER
        await enter(pilot, WHERE_TO)
        screen = text_of(app)
        assert WHERE_TO in screen
        assert "first word after" in screen
        assert "context" in screen
        assert "of 2,048" in screen
        await pilot.press("right", "right", "right")
        assert app.frame == 3
        assert "frame 4 of 16" in text_of(app)
        await pilot.press("end")
        assert app.frame == 15
        await pilot.press("home")
        assert app.frame == 0

    drive(new(TRIANGLE), scenario, size=size)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES[::2])
def test_every_command_acts(size: tuple[int, int], tmp_path: Path) -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        talk = app.conversation
        await enter(pilot, "/frames 8")
        assert len(talk.attachments[0].batch) == 8
        await enter(pilot, f"/zoom 0:01 0:02 {WHAT}")
        assert len(talk.attachments) == len(talk.turns) + 1 == 2
        assert app.attachment is talk.attachments[1]
        assert "zoomed to 0:01" in text_of(app)
        await enter(pilot, f"/add {CIRCLE}")
        assert app.attachment is talk.attachments[2]
        assert "3 of 3" in text_of(app)
        await pilot.press("ctrl+p", "ctrl+p")
        assert app.attachment is talk.attachments[0]
        await pilot.press("ctrl+n")
        assert app.attachment is talk.attachments[1]
        await pilot.press("ctrl+p")
        await enter(pilot, "/subtitles auto")
        assert talk.attachments[0].subtitles
        await enter(pilot, f"/save {tmp_path / 'talk.html'}")
        assert (tmp_path / "talk.html").stat().st_size > 10_000
        await enter(pilot, "/model")
        assert "answers; others" in " ".join(text_of(app).split())
        await enter(pilot, "/copy")
        assert app.clipboard == talk.turns[0].text
        await enter(pilot, "/theme")
        assert app.theme == "smolvideo-light"
        await enter(pilot, "/edit")
        assert talk.turns == []
        assert app.prompt.input.value == WHAT
        await enter(pilot, "/help")
        assert "Commands" in text_of(app) or "Keys" in text_of(app)
        await pilot.press("escape")
        await enter(pilot, "/sessions")
        assert "Conversations" in text_of(app)
        await pilot.press("escape")
        await enter(pilot, "/quit")

    drive(new(SUBTITLED), scenario, size=size)


def test_open_starts_the_player_at_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    played = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(
        "smolvideo.conversation.timestamps.shutil.which", lambda name: f"/bin/{name}"
    )
    monkeypatch.setattr("smolvideo.tui.controller.play", played.append)

    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await pilot.press("right", "right")
        await enter(pilot, "/open")
        await until(pilot, lambda: "opened in mpv" in text_of(app))

    start = new(TRIANGLE)
    drive(start, scenario)
    seconds = start.conversation.attachments[0].batch.pts_seconds[2]
    assert played[0].words[1:] == (f"--start={seconds:.3f}", str(TRIANGLE))


def test_open_without_a_display_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("smolvideo.conversation.timestamps.sys.platform", "linux")
    monkeypatch.setattr(
        "smolvideo.conversation.timestamps.shutil.which", lambda name: f"/bin/{name}"
    )
    monkeypatch.setattr("smolvideo.tui.controller.play", lambda _: pytest.fail("it was started"))

    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await enter(pilot, "/open")
        assert "there is no display to play on" in " ".join(text_of(app).split())

    drive(new(TRIANGLE), scenario)


def test_help_and_lists_scroll_by_pages() -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await pilot.press("f1")
        await pilot.pause()
        shown = app.screen.query_one(".overlay")
        assert shown.max_scroll_y > 0, "all of the help is on the screen"
        await pilot.press("pagedown")
        await pilot.pause()
        below = shown.scroll_offset.y
        assert below > 0
        await pilot.press("pageup")
        await pilot.pause()
        assert shown.scroll_offset.y < below
        await pilot.press("escape")
        app.prompt.history[:] = [f"question {number}" for number in range(50)]
        await pilot.press("ctrl+r")
        await pilot.pause()
        await pilot.press("pagedown")
        await pilot.pause()
        assert (app.screen.query_one(OptionList).highlighted or 0) > 1

    drive(new(TRIANGLE), scenario, size=(60, 16))


def test_idle_chat_does_not_redraw() -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await until(pilot, lambda: app.asking._work.current_job is None)
        await pilot.pause(0.3)
        drawn: list[object] = []
        for widget in app.query("*"):
            refresh = widget.refresh
            widget.refresh = (  # type: ignore[method-assign]
                lambda *a, _refresh=refresh, _widget=widget, **k: (
                    drawn.append(_widget),
                    _refresh(*a, **k),
                )[1]
            )
        for _ in range(20):
            app.asking.tick()
        await pilot.pause(0.3)
        assert drawn == []
        assert not app.prompt.input.cursor_blink

    drive(new(TRIANGLE), scenario)


def test_notices_and_hints_name_chat_commands() -> None:
    assert in_chat("`--max-frames 12` fits") == "`/frames 12` fits"
    assert in_chat("ask for fewer (`--max-frames`)") == "ask for fewer (`/frames`)"
    assert in_chat("`--model nano` needs no download") == "`/model nano` needs no download"
    assert in_chat("run with `--device cpu`") == "run with `--device cpu`"
    notice = error_text("no room", "`--max-frames 12` fits").plain
    assert "`/frames 12` fits" in notice


def test_errors_are_shown_and_the_session_continues(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()

    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        screen = " ".join(text_of(app).split())
        assert "is empty (0 bytes)" in screen
        assert "interrupted?" in screen
        await enter(pilot, "What?")
        assert "nothing to look at yet" in text_of(app)
        await enter(pilot, "/zom 1 2")
        assert "no command `/zom`" in text_of(app)
        await enter(pilot, f"/add {tmp_path / 'nothere.mp4'}")
        assert "no such file" in text_of(app)
        await enter(pilot, f"/add {TRIANGLE}")
        await enter(pilot, WHAT)
        assert app.conversation.turns[-1].text == ANSWER
        await enter(pilot, f"/add {SAMPLES / 'circle_appears.mp4'}")
        await enter(pilot, "/frames 5000")
        assert "fits" in text_of(app)

    drive(new(tmp_path / "empty.mp4"), scenario, size=(120, 40))


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A random network whose answers only end at the token limit."""
    folder = tinymodels.make_tiny(tmp_path_factory.mktemp("talkative") / "tiny", seed=3)
    engine = load_engine(str(folder), device="cpu")
    assert isinstance(engine, NativeEngine)
    engine.checkpoint = replace(engine.checkpoint, eos_token_ids=())
    return engine


@pytest.fixture
def _slow_steps(talkative: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delay each decode step, as a large model does."""
    assert isinstance(talkative, NativeEngine)
    kind = type(talkative.network.model.text_model)
    read = kind.prefill

    def slowly(self, x, cache, *, num_logits=1):  # type: ignore[no-untyped-def]
        if x.shape[1] == 1:
            time.sleep(0.05)
        return read(self, x, cache, num_logits=num_logits)

    monkeypatch.setattr(kind, "prefill", slowly)


def endless(engine: Engine, source: Path) -> Startup:
    settings = Settings(
        str(engine.checkpoint.folder),
        sampling=FrameSampling(max_frames=4),
        generation=GenerationOptions(max_new_tokens=1500),
    )
    talk = Conversation(settings, lambda settings, on_progress: engine)
    return Startup(talk, (str(source),))


@pytest.mark.usefixtures("_slow_steps")
def test_escape_stops_and_keeps_the_partial_answer(talkative: Engine) -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        app.prompt.set_text(WHAT)
        await pilot.press("enter")
        await until(pilot, lambda: app.query(TurnView).last().text)
        assert app.asking.is_working
        await pilot.press("escape")
        await until(pilot, lambda: not app.asking.is_working)
        turn = app.conversation.turns[0]
        assert turn.outcome == "stopped"
        assert turn.text
        await until(pilot, lambda: "stopped" in text_of(app))

    drive(endless(talkative, TRIANGLE), scenario)


def test_keys_are_answered_while_it_generates(
    talkative: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are handled between tokens: here the second token waits until a key was handled."""
    waiting, go = threading.Event(), threading.Event()
    assert isinstance(talkative, NativeEngine)
    kind = type(talkative.network.model.text_model)
    read = kind.prefill

    def held(self, x, cache, *, num_logits=1):  # type: ignore[no-untyped-def]
        if x.shape[1] == 1:
            waiting.set()
            assert go.wait(300)
        return read(self, x, cache, num_logits=num_logits)

    monkeypatch.setattr(kind, "prefill", held)

    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        # Pilot's own keys and pauses wait until the app is idle.
        async def soon(condition: Callable[[], object]) -> None:
            deadline = time.monotonic() + 120
            while not condition():
                assert time.monotonic() < deadline, text_of(app)
                await asyncio.sleep(0.005)

        try:
            app.asking.ask(WHAT)
            await soon(waiting.is_set)
            for key, frame in (("right", 1), ("left", 0), ("right", 1)):
                app.post_message(Key(key, None))
                await soon(lambda frame=frame: app.frame == frame)  # type: ignore[misc]
                assert app.asking.is_working
                assert not go.is_set()
        finally:
            go.set()
        await pilot.press("escape")
        await until(pilot, lambda: not app.asking.is_working)

    drive(endless(talkative, TRIANGLE), scenario)


@pytest.mark.usefixtures("_slow_steps")
def test_questions_are_queued(talkative: Engine) -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        for question in (WHAT, WHERE_TO):
            app.prompt.set_text(question)
            await pilot.press("enter")
        await until(pilot, lambda: "waiting" in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: len(app.conversation.turns) == 1)
        await pilot.press("escape")
        await until(pilot, lambda: not app.asking.is_working)
        assert [turn.question for turn in app.conversation.turns] == [WHAT, WHERE_TO]

    drive(endless(talkative, TRIANGLE), scenario)


def test_edit_replaces_the_question() -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await enter(pilot, "What is in this vdeo?")
        await pilot.press("ctrl+e")
        await until(pilot, lambda: app.prompt.input.value == "What is in this vdeo?")
        assert not app.query(TurnView)
        await enter(pilot, WHAT)
        assert [turn.question for turn in app.conversation.turns] == [WHAT]

    drive(new(TRIANGLE), scenario)


def test_history_keys_and_search() -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await pilot.press(*"half")
        await pilot.press("up")
        assert app.prompt.input.value == "What then?"
        await pilot.press("up")
        assert app.prompt.input.value == "Who is it?"
        await pilot.press("down", "down")
        assert app.prompt.input.value == "half"
        await pilot.press("ctrl+r")
        await pilot.press(*"who")
        await pilot.press("enter")
        assert app.prompt.input.value == "Who is it?"
        await pilot.press("ctrl+r")
        await pilot.press(*"xyzzy")
        assert "nothing like that" in text_of(app)
        await pilot.press("enter")
        assert app.prompt.input.value == "Who is it?"

    drive(new(TRIANGLE), scenario, history=("Who is it?", "What then?"))


def test_completion_by_keys() -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await pilot.press("slash")
        assert app.prompt.completing
        assert "/frames 20" in text_of(app)
        await pilot.press("down", "enter")
        assert app.prompt.input.value == "/zoom "
        await pilot.press("escape", "escape")
        assert app.prompt.input.value == ""
        await pilot.press(*"/mo")
        await pilot.press("tab")
        assert app.prompt.input.value == "/model "
        await pilot.press(*"nan")
        await pilot.press("tab")
        assert app.prompt.input.value == "/model nano"

    drive(new(TRIANGLE), scenario)


def test_filmstrip_follows_keys_and_mouse() -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await pilot.press("tab")
        assert app.focused is app.filmstrip
        await pilot.press("right", "z", "right", "right", "right", "z")
        await until(pilot, lambda: not app.asking.is_working)
        times = app.conversation.attachments[0].batch.pts_seconds
        assert app.conversation.attachments[1].window == (round(times[1], 3), round(times[4], 3))
        await pilot.press("ctrl+p")
        await pilot.click("#line", offset=(97, 0))
        await pilot.pause()
        assert app.frame >= 14
        await pilot.click("#thumbs", offset=(2, 1))
        await pilot.pause()
        assert app.frame <= 1

    drive(new(TRIANGLE), scenario)


def test_time_links_move_the_cursor() -> None:
    start = new(TRIANGLE)

    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await enter(pilot, WHAT)
        app.conversation.turns[0] = replace(
            app.conversation.turns[0], text="first at 0:02, then at 0:05"
        )
        await pilot.press("ctrl+t")
        assert abs(app.seconds - 2) < 0.3
        await pilot.press("ctrl+t")
        assert abs(app.seconds - 5) < 0.3
        view = app.query(TurnView).last()
        view.finish(replace(app.conversation.turns[0], text="it is at 0:03"))
        await until(pilot, lambda: "it is at" in text_of(app))
        # The text begins after the border, a blank and the margin.
        await pilot.click(".answer MarkdownBlock", offset=(11, 0))
        await pilot.pause()
        assert abs(app.seconds - 3) < 0.3

    drive(start, scenario)


def test_why_moves_the_cursor_to_the_frame_that_carries_the_answer() -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await enter(pilot, "What colour is the star?")
        await enter(pilot, "/why")
        evidence = app.conversation.turns[-1].evidence
        assert evidence is not None
        best = evidence.frames[0]
        assert best.source == 1
        assert app.attachment is app.conversation.attachments[1]
        assert app.seconds == best.time > 0
        assert "why: the frame at 0:0" in text_of(app).replace("\n", " ")

    drive(new(CIRCLE, SAMPLES / "three_shots.mp4"), scenario)


def test_only_times_become_links() -> None:
    assert with_links("at 0:02 and 9:59", 8) == "at [0:02](time:2) and 9:59"
    assert with_links("`0:02` and [0:03](x)", 8) == "`0:02` and [0:03](x)"
    assert "\x1b" not in with_links("\x1b[31m", 8)


def test_hostile_answers_are_escaped() -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        view = app.transcript.begin("[red]q[/red] \x1b[2J", 8.0)
        await pilot.pause()
        view.show_text("<b>x</b> [bold]y[/bold] \x1b]0;title\x07 ![i](http://x/y.png)")
        await until(pilot, lambda: "[bold]y[/bold]" in text_of(app))
        screen = text_of(app)
        assert "[red]q[/red] \\x1b[2J" in screen
        assert "<b>x</b>" in screen
        assert "[bold]y[/bold]" in screen
        assert "\x1b" not in screen

    drive(new(TRIANGLE), scenario)


@pytest.mark.skipif(sys.platform == "win32", reason="no such file names there")
def test_screen_has_no_active_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "a\x1b]0;o\x07b\x9b6nc\u202ed\u2066e\x7ff\u2028g\ufeffh"
    folder = tmp_path / "files"
    folder.mkdir()
    video = shutil.copy(TRIANGLE, folder / f"{hostile}.mp4")
    monkeypatch.chdir(folder)

    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        app.transcript.add_notice(hostile)
        app.transcript.say_error(SourceError(hostile, hint=hostile), about=hostile)
        turn = Turn(f"What {hostile}?", f"At 0:02 {hostile}", notices=(hostile,), model=hostile)
        app.transcript.add(turn, 8.0)
        app.transcript.add(Turn(hostile, "", "failed", error=hostile, hint=hostile), 8.0)
        await pilot.pause()
        screens = [text_of(app)]
        for line in ("/add a", f"/model {hostile}", hostile):
            app.prompt.set_text(line)
            await pilot.pause()
            screens.append(text_of(app))
        await pilot.press("ctrl+r")
        await pilot.pause()
        screens.append(text_of(app))
        for screen in screens:
            assert not re.search(
                "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u206f\ufeff]", screen
            )
        assert r"a\x1b]0;o\x07b\x9b6nc\u202ed\u2066e" in screens[0]

    drive(new(video), scenario, size=(100, 60), history=(hostile,))


def test_no_color_is_respected() -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await enter(pilot, WHAT)
        strips = app.screen._compositor.render_strips(app.size)
        for strip in strips:
            for segment in strip.apply_filter(app._filters[-1], app.screen.background_colors[1]):
                style = segment.style
                assert style is None or style.color is None or style.color.is_default
        assert any(mark in text_of(app) for mark in "#%@")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        drive(new(TRIANGLE), scenario, pictures="shades", no_colour=True)


@pytest.mark.parametrize("size", [(20, 8), (40, 12), (63, 17)])
def test_small_terminals_work(size: tuple[int, int]) -> None:
    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await enter(pilot, WHAT)
        assert app.conversation.turns[0].text == ANSWER
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: ANSWER in text_of(app))

    drive(new(TRIANGLE), scenario, size=size)


def test_resumed_conversation_shows_its_turns() -> None:
    with create(talking.settings()) as journal:
        talk = Conversation(talking.settings(), talking.load, store=journal)

        async def first(app: ChatApp, pilot: Pilot[str]) -> None:
            await enter(pilot, WHAT)

        drive(Startup(talk, (str(TRIANGLE),), journal=journal), first)

    async def second(app: ChatApp, pilot: Pilot[str]) -> None:
        assert app.query(TurnView).first().text == ANSWER
        await enter(pilot, WHERE_TO)
        assert app.conversation.turns[-1].text == "down"
        await pilot.press("f2")
        await pilot.pause()
        await pilot.press("enter")

    with reopen(latest_id()) as (journal, kept):
        again = resume(kept, talking.load, keeper=journal)
        assert (
            drive(Startup(again, journal=journal, kept=kept), second, size=(160, 40)) == latest_id()
        )


def test_half_blocks_have_the_pixel_colours() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8))
    picture = TextImage("blocks", id="x")
    picture.show(image, 5, 3)
    pixels = np.asarray(image)
    for row, line in enumerate(picture._lines):
        column = 0
        for segment in line:
            for _ in segment.text:
                assert segment.style is not None
                assert segment.style.color is not None
                assert segment.style.bgcolor is not None
                upper = segment.style.color.get_truecolor()
                lower = segment.style.bgcolor.get_truecolor()
                assert tuple(upper) == tuple(pixels[2 * row, column])
                assert tuple(lower) == tuple(pixels[2 * row + 1, column])
                column += 1
        assert column == 5


@pytest.mark.parametrize("kind", ["kitty", "sixel"])
def test_pixel_graphics_in_terminals_that_support_them(
    kind: PictureKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, object]] = []
    tgp = pytest.importorskip("textual_image.renderable.tgp")
    monkeypatch.setattr(tgp, "_send_tgp_message", lambda **message: sent.append(message))

    async def scenario(app: ChatApp, pilot: Pilot[str]) -> None:
        await pilot.press("right", "right")
        assert app.frame == 2
        if kind == "kitty":
            await until(pilot, lambda: any(message.get("f") == 100 for message in sent))
            # kitty's placeholder for a part of an image
            await until(pilot, lambda: chr(0x10EEEE) in text_of(app))
        else:
            # the frame and the strip
            await until(pilot, lambda: text_of(app).count("\x1bP") >= 2)

    drive(new(TRIANGLE), scenario, pictures=kind)
