"""Text output: quantities, tables, notices, the answer and its footer."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

import pytest
from rich.console import Console

from smolvideo.answer import Answer, AnswerStream, Usage
from smolvideo.formatting import format_bytes, format_clock, format_count, format_seconds
from smolvideo.progress import Progress
from smolvideo.show.answer import footer, show_footer, stream_answer
from smolvideo.show.console import PIPE_WIDTH, Output, open_screen
from smolvideo.show.progress_bar import StageProgress, format_amount
from smolvideo.show.summarise import show_plan
from smolvideo.show.tables import show_key_values, show_table
from smolvideo.summaries import WorkItem
from smolvideo.summaries.dry_run import PlannedItem

USAGE = Usage(
    prompt_tokens=600,
    answer_tokens=12,
    context_tokens=2048,
    frames=8,
    seconds={"generate": 0.275},
    peak_memory_bytes=812_000_000,
)


def screen_of(width: int = 80, *, terminal: bool = False, **how: bool) -> Output:
    """Return a screen whose two streams can be read afterwards."""
    out, err = (
        Console(
            file=io.StringIO(), width=width, force_terminal=terminal, highlight=False, markup=False
        )
        for _ in range(2)
    )
    return Output(out, err, **how)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def stream_of(*pieces: str) -> AnswerStream:
    return AnswerStream(iter(pieces), lambda text: Answer(text, "end", USAGE))


# ------------------------------------------------------------------ quantities


@pytest.mark.parametrize(
    ("seconds", "clock", "with_tenths"),
    [
        (0, "0:00", "0:00.0"),
        (3.49, "0:03", "0:03.4"),
        (59.999, "0:59", "0:59.9"),
        (0.3, "0:00", "0:00.3"),
        (75.0, "1:15", "1:15.0"),
        (3723.5, "1:02:03", "1:02:03.5"),
        (-1, "0:00", "0:00.0"),
    ],
)
def test_clock(seconds: float, clock: str, with_tenths: str) -> None:
    assert format_clock(seconds) == clock
    assert format_clock(seconds, decimals=1) == with_tenths


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.004, "0.00 s"),
        (0.3, "0.3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3700, "1 h 01 min"),
    ],
)
def test_seconds(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (812_000_000, "812 MB"),
        (4_493_569_760, "4.5 GB"),
        (99_600, "100 kB"),
        (999_600, "1.0 MB"),
    ],
)
def test_bytes(count: int, shown: str) -> None:
    assert format_bytes(count) == shown


def test_count() -> None:
    assert format_count(1, "frame") == "1 frame"
    assert format_count(8, "frame") == "8 frames"
    assert format_count(2, "entry", "entries") == "2 entries"


@pytest.mark.parametrize(
    ("stage", "done", "total", "shown"),
    [
        ("decode", 12, 50, "12/50 frames"),
        ("download", 3_400_000, 1_000_000_000, "3.4 MB of 1.0 GB"),
        ("download", 0, None, ""),
        ("load", 0, None, ""),
        ("generate", 7, None, "7 tokens"),
    ],
)
def test_amount_of_a_stage(stage, done, total, shown) -> None:  # type: ignore[no-untyped-def]
    assert format_amount(stage, done, total) == shown


# ------------------------------------------------------------------ tables

COLUMNS = ["name", "size", "what"]
ROWS = [["nano", "9", "small"], ["large", "1,000", "漢字"]]


def test_table_columns_are_aligned() -> None:
    screen = screen_of()
    show_table(screen, COLUMNS, ROWS, right=frozenset({1}))
    assert written(screen.out) == ("name    size  what\nnano       9  small\nlarge  1,000  漢字\n")


def test_last_column_of_a_narrow_table_is_on_its_own_line() -> None:
    screen = screen_of(width=16)
    rows = [["nano", "9", "small and quick enough"], ROWS[1]]
    show_table(screen, COLUMNS, rows, right=frozenset({1}))
    assert written(screen.out) == (
        "name    size\n  what\nnano       9\n  small and\n  quick enough\nlarge  1,000\n  漢字\n"
    )


def test_very_narrow_table_becomes_blocks() -> None:
    screen = screen_of(width=11)
    rows = [["nano", "9", "small one"], ROWS[1]]
    show_table(screen, COLUMNS, rows, right=frozenset({1}))
    assert written(screen.out) == (
        "nano\n  size: 9\n  what:\n  small one\n\nlarge\n  size:\n  1,000\n  what:\n  漢字\n"
    )


def test_table_escapes_control_characters() -> None:
    screen = screen_of()
    show_table(screen, ["file"], [["a\x1b[2Jb.mp4"]], right=frozenset())
    assert written(screen.out) == "file\na\\x1b[2Jb.mp4\n"


def item_of(name: str) -> WorkItem:
    return WorkItem(name, f"/v/{name}", PurePath(name))


PLANNED = [
    PlannedItem(item_of("a.mp4"), "new", "", 61.0, 0, 50, 4160),
    PlannedItem(item_of("much longer.mp4"), "same", "a.mp4", None),
    PlannedItem(item_of("c.mp4"), "error", "it is empty"),
]


def test_plan_rows_are_shown_as_they_arrive() -> None:
    screen = screen_of(90)
    items = [one.item for one in PLANNED]

    def plan() -> Iterator[PlannedItem]:
        for number, planned in enumerate(PLANNED):
            rows = written(screen.out).splitlines()[1:]
            assert [row.split("  ")[0] for row in rows] == [one.name for one in items[:number]]
            yield planned

    show_plan(screen, items, plan(), lambda: 0.5)
    assert written(screen.out).splitlines() == [
        "video             length  windows  frames      tokens  what",
        "a.mp4               1:01               50       4,160  new",
        "much longer.mp4                                        same as a.mp4",
        "c.mp4                                                  cannot be done: it is empty",
    ]
    assert written(screen.err) == (
        "2 of 3 videos to do: 50 frames, 4,160 tokens to read, about 25 s as measured in this "
        "folder\n"
    )


@pytest.mark.parametrize("width", [80, 50, 30])
def test_plan_progress_is_updated_and_erased(width: int) -> None:
    screen = screen_of(width, terminal=True)
    show_plan(screen, [one.item for one in PLANNED], PLANNED, lambda: None)
    told = written(screen.err)
    shown = [f"planned {done}/3" for done in range(3)]
    assert [told.find(line) for line in shown] == sorted(told.find(line) for line in shown)
    assert all(line in told for line in shown)
    assert told.rindex("\r\x1b[2K") > told.rindex("planned ")
    rows = written(screen.out)
    assert all(one.item.name in rows for one in PLANNED)
    assert "it is empty" in " ".join(rows.split())
    assert all(len(line) <= width for line in re.sub(r"\x1b\[\d*m", "", rows).splitlines())


def test_key_values_are_aligned_without_unknown_ones() -> None:
    screen = screen_of()
    show_key_values(screen, {"name": "tiny", "image size": "32", "revision": ""})
    assert written(screen.out) == "name        tiny\nimage size  32\n"
    narrow = screen_of(24, terminal=True)
    show_key_values(narrow, {"name": "tiny, and wrapped at words"})
    plain = re.sub(r"\x1b\[\d*m", "", written(narrow.out))
    assert plain == "name  tiny, and wrapped\n      at words\n"


# ------------------------------------------------------------------ notices


def test_notice_is_printed_once_and_escaped() -> None:
    screen = screen_of()
    screen.notes(["look at `\x1b[2J.mp4`", "look at `\x1b[2J.mp4`"])
    assert written(screen.err) == "note: look at `\\x1b[2J.mp4`\n"
    assert written(screen.out) == ""


def test_quiet_prints_nothing() -> None:
    screen = screen_of(terminal=True, quiet=True)
    screen.notice("look")
    show_footer(screen, USAGE, {})
    assert written(screen.err) == ""


def test_pipe_output_is_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    screen = open_screen()
    screen.notice("x" * (PIPE_WIDTH + 500))
    assert capsys.readouterr().err == f"note: {'x' * (PIPE_WIDTH + 500)}\n"
    assert not screen.is_interactive


def test_pipe_output_is_plain_with_forced_colour(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    screen = open_screen()
    screen.notice("look")
    show_table(screen, COLUMNS, ROWS, right=frozenset())
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err


# ------------------------------------------------------------------ answer


def test_answer_streams_to_stdout_and_ends_with_a_newline() -> None:
    screen, seen = screen_of(), []
    answer = stream_answer(screen, stream_of("A ", "dog."), before_first=lambda: seen.append(1))
    assert written(screen.out) == "A dog.\n"
    assert written(screen.err) == ""
    assert answer.text == "A dog."
    assert seen == [1]


def test_answer_is_escaped_for_the_terminal() -> None:
    screen = screen_of()
    answer = stream_answer(screen, stream_of("\x1b]52;c;cm0=", "\x07\tyes\n"))
    assert written(screen.out) == "\\x1b]52;c;cm0=\\x07\tyes\n\n"
    assert answer.text == "\x1b]52;c;cm0=\x07\tyes\n"  # the returned text is unchanged


def test_empty_answer_is_an_empty_line() -> None:
    screen, seen = screen_of(), []
    stream_answer(screen, stream_of(), before_first=lambda: seen.append(1))
    assert written(screen.out) == "\n"
    assert seen == [1]


def test_interrupted_answer_ends_its_line() -> None:
    def pieces():  # type: ignore[no-untyped-def]
        yield "A d"
        raise KeyboardInterrupt

    screen = screen_of()
    with pytest.raises(KeyboardInterrupt):
        stream_answer(screen, AnswerStream(pieces(), lambda text: Answer(text, "end", USAGE)))
    assert written(screen.out) == "A d\n"


SECONDS = {"load": 1.25, "decode": 0.4, "encode": 0.31, "prefill": 0.2, "generate": 0.275}


def test_footer_line() -> None:
    assert footer(USAGE, SECONDS) == (
        "8 frames · 612 of 2048 tokens · decode 0.4 s · load 1.2 s · encode 0.3 s · "
        "prefill 0.2 s · generate 0.3 s · 40 tokens/s · peak 812 MB"
    )


def test_footer_names_dropped_frames() -> None:
    assert footer(USAGE, {}, dropped=42).startswith("8 frames, 42 dropped · ")


def test_footer_omits_unknown_values() -> None:
    bare = Usage(prompt_tokens=9, answer_tokens=1, context_tokens=64)
    assert footer(bare, {}) == "10 of 64 tokens"


@pytest.mark.parametrize(
    ("images", "from_cache", "frames", "begins"),
    [
        (8, 0, None, "8 frames · "),
        (8, 8, None, "8 frames, all from the cache · "),
        (8, 3, 8, "8 frames, 3 from the cache · "),
        (17, 17, 1, "1 frame, all from the cache · "),
        (17, 5, 1, "1 frame, 5 of 17 tiles from the cache · "),
        (17, 5, 0, "612 of 2048 tokens"),
    ],
)
def test_footer_names_cached_frames(
    images: int, from_cache: int, frames: int | None, begins: str
) -> None:
    usage = replace(USAGE, frames=images, frames_from_cache=from_cache)
    assert footer(usage, SECONDS, frames=frames).startswith(begins)


@pytest.mark.parametrize(
    ("terminal", "verbose", "shown"),
    [(True, False, True), (False, False, False), (False, True, True)],
)
def test_footer_needs_a_terminal_or_verbose(terminal: bool, verbose: bool, shown: bool) -> None:
    screen = screen_of(terminal=terminal, verbose=verbose)
    show_footer(screen, USAGE, SECONDS)
    assert ("612 of 2048 tokens" in written(screen.err)) is shown
    assert written(screen.out) == ""


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (200, footer(USAGE, SECONDS)),
        (80, "8 frames · 612 of 2048 tokens · load 1.2 s · 40 tokens/s · peak 812 MB"),
        (40, "8 frames · 612 of 2048 tokens"),
        (10, "8 frames"),
    ],
)
def test_footer_is_one_line_in_every_terminal(width: int, shown: str) -> None:
    screen = screen_of(width=width, terminal=True)
    show_footer(screen, USAGE, SECONDS)
    assert Console().render_str(written(screen.err)).plain.count("\n") == 1
    assert shown in written(screen.err)


def test_footer_is_shortened_to_the_width() -> None:
    assert footer(USAGE, SECONDS, width=95) == (
        "8 frames · 612 of 2048 tokens · decode 0.4 s · load 1.2 s · 40 tokens/s · peak 812 MB"
    )


def test_footer_is_complete_with_verbose() -> None:
    screen = screen_of(width=40, terminal=True, verbose=True)
    show_footer(screen, USAGE, SECONDS)
    assert "peak" in written(screen.err)


def test_answer_wraps_between_words_in_a_terminal() -> None:
    screen = screen_of(width=12, terminal=True)
    answer = stream_answer(screen, stream_of("A red ", "trian", "gle moves."))
    assert written(screen.out) == "A red\ntriangle\nmoves.\n"
    assert answer.text == "A red triangle moves."


def test_download_that_stalls_has_no_rate_and_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(120, terminal=True)
    with StageProgress(screen) as stages:
        for done in (1, 2, 3, 3):
            stages.on_progress(Progress("download", done * 10**8, 10**9))
        assert stages._bars is not None
        (task,) = stages._bars.tasks
        task.fields["changed"] = task.get_time() - 7
        stages._bars.refresh()
    assert "300 MB of 1.0 GB, no data for 7 s" in written(screen.err)
    assert not re.search(r"no data for 7 s.*left", written(screen.err))
