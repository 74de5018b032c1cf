"""The filmstrip: chosen frames, their size, and the bytes written to the terminal."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from smolvideo.frames import FrameBatch, MediaKind, VideoMetadata
from smolvideo.show.console import Output, TerminalCapabilities
from smolvideo.show.filmstrip import (
    captions,
    choose_filmstrip,
    draw_contact_sheet,
    plan_strip,
    show_filmstrip,
    shown_aspect,
    source_line,
)


def batch_of(
    times: tuple[float, ...],
    *,
    size: tuple[int, int] = (32, 32),
    geometry: str | None = "official",
    kind: MediaKind = "video",
    shape: tuple[int, int] = (640, 360),
) -> FrameBatch:
    """Return frames of increasing brightness; ``shape`` is that of the source."""
    levels = np.linspace(0, 255, len(times)).astype(np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (len(times), *size, 3)).copy()
    metadata = VideoMetadata(*shape, duration_seconds=10.0, kind=kind, name="clip.mp4")
    return FrameBatch(images, times, metadata, geometry=geometry)


def terminal_of(width: int, height: int = 24, *, colours: str | None = "truecolor") -> Output:
    def console() -> Console:
        return Console(
            file=io.StringIO(),
            width=width,
            height=height,
            force_terminal=True,
            color_system=colours,  # type: ignore[arg-type]
            highlight=False,
            _environ={"TERM": "xterm-256color"},
        )

    return Output(console(), console())


def shown_on(screen: Output) -> str:
    assert isinstance(screen.err.file, io.StringIO)
    assert isinstance(screen.out.file, io.StringIO)
    assert screen.out.file.getvalue() == ""
    return screen.err.file.getvalue()


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()


# ------------------------------------------------------------------ arithmetic


@given(
    count=st.integers(1, 300),
    aspect=st.floats(0.05, 20),
    width=st.integers(1, 400),
    lines=st.none() | st.integers(1, 100),
    caption=st.integers(4, 9),
)
def test_strip_fits_the_terminal(
    count: int, aspect: float, width: int, lines: int | None, caption: int
) -> None:
    plan = plan_strip(count, aspect, width=width, lines=lines, caption=caption)
    assert plan.columns >= 1
    assert plan.rows >= 1
    assert plan.stride > plan.columns
    assert plan.stride > caption
    if plan.per_row > 1:  # a terminal narrower than a time stamp may cut the image
        assert plan.per_row * plan.stride - 1 <= width
    assert plan.columns <= width
    rows_of_pictures = -(-len(plan.shown) // plan.per_row)
    if lines is None:
        assert plan.shown == tuple(range(count))
    elif rows_of_pictures > 1:
        assert rows_of_pictures * (plan.rows + 1) <= lines
    assert list(plan.shown) == sorted(set(plan.shown))
    assert plan.shown[0] == 0
    if len(plan.shown) > 1:
        assert plan.shown[-1] == count - 1


@given(count=st.integers(2, 60), width=st.integers(40, 220), aspect=st.floats(0.4, 2.5))
def test_images_keep_their_aspect_ratio(count: int, width: int, aspect: float) -> None:
    plan = plan_strip(count, aspect, width=width)
    drawn = plan.columns / (2 * plan.rows)
    # Rounding to cells: up to half a row or half a column.
    assert abs(drawn / aspect - 1) <= 0.5 / min(plan.rows, plan.columns) + 0.05


@pytest.mark.parametrize(
    ("width", "height", "shown", "per_row"), [(200, 50, 24, 8), (80, 24, 8, 4), (40, 20, 6, 3)]
)
def test_strip_of_fifty_wide_frames(width: int, height: int, shown: int, per_row: int) -> None:
    plan = plan_strip(50, 16 / 9, width=width - 1, lines=height // 2)
    assert (len(plan.shown), plan.per_row) == (shown, per_row)


def test_strip_for_one_frame_shows_the_first() -> None:
    assert plan_strip(9, 16 / 9, width=6, lines=2).shown == (0,)
    assert plan_strip(0, 16 / 9, width=6, lines=2).shown == ()


@pytest.mark.parametrize(
    ("geometry", "layout", "aspect"),
    [
        ("official", "nano", 640 / 360),
        ("official", "smolvlm2", 640 / 360),
        ("official", "smolvlm", 1.0),  # cropped to the centre: the sides are not part of the frame
        ("direct", "smolvlm", 640 / 360),
        ("pad", "smolvlm2", 1.0),
    ],
)
def test_frames_are_shown_in_the_aspect_ratio_of_the_source(geometry, layout, aspect) -> None:  # type: ignore[no-untyped-def]
    assert shown_aspect(batch_of((0.0,), geometry=geometry), layout) == aspect


def test_untransformed_frames_have_their_own_aspect_ratio() -> None:
    assert shown_aspect(batch_of((0.0,), geometry=None, size=(30, 60))) == 2.0


def test_captions_are_times() -> None:
    assert captions(batch_of((0.0, 4.96, 75.0))) == ["0:00", "0:04", "1:15"]
    assert captions(batch_of((0.0, 0.5))) == ["0:00.0", "0:00.5"]
    assert captions(batch_of((0.0, 1.0), kind="frames")) == ["#1", "#2"]
    assert captions(batch_of((0.0,), kind="image")) == ["picture"]


def test_source_line() -> None:
    assert source_line(batch_of((0.0, 1.0))) == "clip.mp4 · 0:10 · 640×360 · 2 frames"  # noqa: RUF001
    assert source_line(batch_of((0.0,), kind="image")) == "clip.mp4 · 640×360"  # noqa: RUF001


def test_long_name_is_shortened_in_the_source_line() -> None:
    batch = batch_of((0.0, 1.0))
    named = replace(batch, metadata=replace(batch.metadata, name="a_very_long_\x1b[31mname.mp4"))
    assert source_line(named, 44) == "a_very_lon…e.mp4 · 0:10 · 640×360 · 2 frames"  # noqa: RUF001


# ------------------------------------------------------------------ drawn


def test_half_blocks_have_the_colours_of_the_frames() -> None:
    screen = terminal_of(40)
    batch = batch_of((0.0, 2.0))
    batch.images[0, :16] = (255, 0, 0)  # the upper half of the first frame, red
    show_filmstrip(screen, [batch], "blocks")
    text = shown_on(screen)
    lines = plain(text)
    assert lines[0] == "clip.mp4 · 0:10 · 640×360 · 2 frames"  # noqa: RUF001
    assert lines[1].count("▀") == 2 * 19
    assert lines[-2:] == ["0:00" + " " * 16 + "0:02", ""]
    first = text.splitlines()[1]
    blocks = "▀" * 19 + "\x1b[0m"
    assert first.count(f"\x1b[38;2;255;0;0;48;2;255;0;0m{blocks}") == 1
    assert first.count(f"\x1b[38;2;255;255;255;48;2;255;255;255m{blocks}") == 1
    assert "\x1b[38;2;0;0;0;48;2;0;0;0m▀" in text.splitlines()[-3]


def test_partial_strip_names_the_number_of_frames() -> None:
    screen = terminal_of(80)
    show_filmstrip(screen, [batch_of(tuple(map(float, range(50))))], "blocks")
    assert plain(shown_on(screen))[-2:] == ["… 8 of 50 frames", ""]


def test_every_frame_is_shown_on_request() -> None:
    screen = terminal_of(80)
    show_filmstrip(screen, [batch_of(tuple(map(float, range(50))))], "blocks", every_frame=True)
    text = "\n".join(plain(shown_on(screen)))
    assert re.findall(r"\d:\d\d(?!\d)", text)[1:] == [f"0:{second:02d}" for second in range(50)]


def test_times_are_plain_text() -> None:
    screen = terminal_of(80)
    show_filmstrip(screen, [batch_of((0.0, 2.0, 4.0))], "times")
    assert plain(shown_on(screen))[1:] == ["0:00  0:02  0:04", ""]


def test_strips_of_many_sources_fit_the_screen() -> None:
    screen = terminal_of(80, 24)
    show_filmstrip(screen, [batch_of((0.0, 2.0))] * 8, "blocks")
    lines = plain(shown_on(screen))
    assert sum("clip.mp4" in line for line in lines) == 8
    assert lines[-2] == "… pictures of 4 of 8 sources"
    assert sum("0:00  " in line for line in lines) == 4


@pytest.mark.parametrize("width", [200, 80, 40, 12])
@pytest.mark.parametrize("kind", ["blocks", "times"])
def test_nothing_is_wider_than_the_terminal(width: int, kind) -> None:  # type: ignore[no-untyped-def]
    screen = terminal_of(width)
    show_filmstrip(screen, [batch_of((0.0, 0.1, 0.2, 7.0))], kind)
    assert max(map(len, plain(shown_on(screen)))) <= width


def test_kitty_gets_each_frame_as_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal_of(80)
    answer_with(monkeypatch, TerminalCapabilities(kitty=True, cell_width=8, cell_height=16))
    show_filmstrip(screen, [batch_of((0.0, 2.0))], "kitty")
    text = shown_on(screen)
    commands = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert all(len(payload) <= 4096 for _, payload in commands)
    starts = [place for place, (keys, _) in enumerate(commands) if keys.startswith("a=T")]
    assert len(starts) == 2
    for start, level in zip(starts, (0, 255), strict=True):
        keys = dict(pair.split("=") for pair in commands[start][0].split(","))
        assert keys["C"] == "1"  # the cursor stays
        assert keys["q"] == "2"  # the terminal sends no reply to stdin
        payload = ""
        for more, piece in commands[start:]:
            payload += piece
            if more.endswith("m=0"):
                break
        picture = Image.open(io.BytesIO(base64.b64decode(payload)))
        assert picture.size == (int(keys["c"]) * 8, int(keys["r"]) * 16)
        assert set(picture.convert("L").tobytes()) == {level}
    # The second image is next to the first, both above the line of times.
    assert re.findall(r"\x1b7\x1b\[(\d+)A\x1b\[(\d+)G", text) == [("8", "1"), ("8", "30")]
    assert text.rsplit("\x1b8", 1)[1].split() == ["0:00", "0:02"]


def test_sixel_gets_each_frame_as_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal_of(80)
    answer_with(monkeypatch, TerminalCapabilities(sixel=True, cell_width=8, cell_height=16))
    show_filmstrip(screen, [batch_of((0.0, 2.0))], "auto")
    text = shown_on(screen)
    pictures = re.findall(r"\x1bP[\d;]*q\"1;1;(\d+);(\d+)([^\x1b]*)\x1b\\", text)
    assert [(int(width), int(height)) for width, height, _ in pictures] == [(28 * 8, 8 * 16)] * 2
    assert "#0;2;0;0;0" in pictures[0][2]
    assert "#0;2;100;100;100" in pictures[1][2]


def test_explicit_images_are_written_to_a_file() -> None:
    err = Console(file=io.StringIO(), force_terminal=False, width=1000)
    screen = Output(Console(file=io.StringIO()), err)
    show_filmstrip(screen, [batch_of((0.0, 2.0))], "blocks")
    lines = plain(shown_on(screen))
    assert "▀" in lines[1]
    assert max(map(len, lines)) <= 80


# ------------------------------------------------------------------ choice of the renderer


def answer_with(monkeypatch: pytest.MonkeyPatch, abilities: TerminalCapabilities) -> None:
    """Use a terminal with these features instead of querying one."""
    monkeypatch.setattr("smolvideo.show.filmstrip.query_capabilities", lambda: abilities)


@pytest.mark.parametrize(
    ("abilities", "chosen"),
    [
        (TerminalCapabilities(kitty=True, sixel=True), "kitty"),
        (TerminalCapabilities(sixel=True), "sixel"),
        (TerminalCapabilities(), "blocks"),
    ],
)
def test_auto_takes_the_best_supported_renderer(
    abilities: TerminalCapabilities, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, abilities)
    assert choose_filmstrip("auto", terminal_of(80))[0] == chosen


def test_auto_draws_nothing_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, TerminalCapabilities(kitty=True))
    assert choose_filmstrip("auto", terminal_of(80, colours=None))[0] == "times"
    monkeypatch.setenv("NO_COLOR", "1")
    assert choose_filmstrip("auto", terminal_of(80))[0] == "times"


def test_auto_draws_nothing_without_a_terminal() -> None:
    pipe = Output(Console(file=io.StringIO()), Console(file=io.StringIO()))
    assert choose_filmstrip("auto", pipe)[0] == "none"
    show_filmstrip(pipe, [batch_of((0.0, 2.0))])
    assert shown_on(pipe) == ""


# ------------------------------------------------------------------ contact sheet


@pytest.mark.parametrize(("count", "aspect"), [(1, 1.0), (5, 16 / 9), (50, 9 / 16), (12, 3.0)])
def test_contact_sheet_has_every_frame(count: int, aspect: float) -> None:
    images = batch_of(tuple(map(float, range(count))), size=(96, 96)).images
    images[:] = np.linspace(60, 255, count).astype(np.uint8)[:, None, None, None]
    sheet = draw_contact_sheet(images, [""] * count, aspect=aspect)
    assert sheet.width <= 1920
    found = {level for level in set(sheet.convert("L").tobytes()) if level >= 60}
    assert found == set(images[:, 0, 0, 0])


def test_contact_sheet_has_time_captions() -> None:
    images = np.zeros((2, 40, 40, 3), np.uint8)
    blank = draw_contact_sheet(images, ["", ""], aspect=2.0)
    timed = draw_contact_sheet(images, ["0:00", "0:02"], aspect=2.0)
    assert blank.size == timed.size
    assert blank.tobytes() != timed.tobytes()
