"""Chat lines: commands, time stamps in answers, transcripts, and the video player."""

import json
import os
import stat
import sys
import time
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import talking
from support.talking import CIRCLE, SUBTITLED, TRIANGLE, WHAT

from smolvideo.conversation import Conversation, Turn
from smolvideo.conversation.commands import (
    COMMANDS,
    ParsedCommand,
    complete,
    execute,
    parse_line,
    trailing_question,
)
from smolvideo.conversation.export import export
from smolvideo.conversation.timestamps import find_timestamps, nearest_frame, play, player_command
from smolvideo.errors import PromptError, RecordError, SmolVideoError, UsageError
from smolvideo.sampling import FrameSampling


def do(talk: Conversation, line: str) -> str:
    call = parse_line(line)
    assert isinstance(call, ParsedCommand)
    return execute(call, talk)


def with_text_track(video: Path, path: Path) -> Path:
    """Write the frames of ``video`` to Matroska with a text track of one line."""
    with av.open(video) as original, av.open(path, "w") as output:
        pictures = output.add_stream_from_template(original.streams.video[0])
        said = output.add_mux_stream("subrip")
        for packet in original.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                output.mux(packet)
        cue = av.Packet(b"Look at the cross.")
        cue.stream, cue.time_base = said, Fraction(1, 1000)
        cue.pts = cue.dts = 1000
        cue.duration = 2000
        output.mux(cue)
    return path


def test_questions_and_commands_are_distinguished() -> None:
    assert parse_line("  What is it? ") == "What is it?"
    assert parse_line("//etc is what?") == "/etc is what?"
    call = parse_line('/zoom 1:10 1:40 what is "that there"?')
    assert isinstance(call, ParsedCommand)
    assert call.words == ("1:10", "1:40", "what", "is", "that there?")
    assert trailing_question(call) == "what is that there?"
    windows = parse_line(r"/add C:\films\one.mp4")
    assert isinstance(windows, ParsedCommand)
    assert windows.words == (r"C:\films\one.mp4",)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/zom 1 2", "no command `/zom`"),
        ("/quit now", "stands alone"),
        ("/", "follows the slash at once"),
        ("/ zoom 1 2", "follows the slash at once"),
        ('/add "half', "left open"),
        ("/\x1b[31m", "no command `/"),
    ],
)
def test_invalid_commands_are_errors(line: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_line(line)
    assert "\x1b" not in str(caught.value)


def test_mistyped_command_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        parse_line("/zom 1 2")
    assert caught.value.hint is not None
    assert "`/zoom`" in caught.value.hint


@given(st.text(max_size=60))
def test_any_line_parses_to_question_command_or_error(line: str) -> None:
    try:
        read = parse_line(line)
    except UsageError:
        return
    assert isinstance(read, ParsedCommand) == line.strip().startswith(
        "/"
    ) - line.strip().startswith("//")
    complete(line)


def test_every_command_completes_from_its_first_letter() -> None:
    for command in COMMANDS.values():
        found = [one.line.strip() for one in complete(command.with_slash[:2])]
        assert command.with_slash in found
    assert complete("What is /") == []
    assert [one.line for one in complete("/fr")] == ["/frames "]
    assert "/open" not in [one.line for one in complete("/", screen=False)]


def test_file_names_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a b.mp4", "a.srt", "a.txt", ".hidden.mp4", "bad\x1b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "films of mine").mkdir()
    (tmp_path / "films of mine" / "one.mkv").touch()
    monkeypatch.chdir(tmp_path)
    assert [one.line for one in complete("/add ")] == ['/add "a b.mp4"', '/add "films of mine/']
    assert [one.line for one in complete('/add "films of mine/')] == [
        '/add "films of mine/one.mkv"'
    ]
    assert [one.line for one in complete("/subtitles a")] == ["/subtitles auto", "/subtitles a.srt"]
    assert complete("/add /no/such/folder/") == []
    assert [one.line for one in complete("/model smolvlm2-2")] == [
        "/model smolvlm2-256m", "/model smolvlm2-2.2b",
    ]  # fmt: skip


@pytest.fixture
def talk() -> Conversation:
    talk = talking.conversation(SUBTITLED)
    talking.ask(talk, WHAT)
    return talk


@pytest.fixture(scope="module")
def unchanged() -> Conversation:
    talk = talking.conversation(SUBTITLED)
    talk.load_engine()
    return talk


def test_commands_change_the_conversation(talk: Conversation, tmp_path: Path) -> None:
    assert do(talk, "/frames") == "frames in view: 16"
    assert do(talk, "/frames 8") == "looking at 8 frames"
    assert do(talk, "/zoom 0:01 50%").startswith("zoomed to 00:01 to 00:0")
    assert do(talk, "/zoom 0:01 99:00") == "zoomed to 00:01 to 00:09: 8 frames"
    assert do(talk, f"/add {CIRCLE}") == "added `circle_right.mp4`"
    assert [len(look.batch) for look in talk.attachments] == [8, 8, 8, 8]
    assert "nano" in do(talk, "/model")
    assert do(talk, f"/save {tmp_path / 'talk.md'}").startswith("saved as")
    assert talk.turns[0].text in (tmp_path / "talk.md").read_text()


def test_find_command_lists_the_moments_of_the_videos_in_view(talk: Conversation) -> None:
    line, *_ = do(talk, "/find a green triangle").splitlines()
    assert line.startswith("triangle_then_cross_subtitled.mp4:0:00:0")
    assert do(talk, "/find a purple star") == "nothing found"
    with pytest.raises(UsageError, match="find what"):
        do(talk, "/find")


def test_subtitles_command_adds_and_removes_them(talk: Conversation) -> None:
    assert do(talk, "/subtitles") == "no subtitles in use"
    said = do(talk, "/subtitles auto")
    assert said.endswith("lines of subtitles near the frames")
    assert talk.attachments[0].subtitles
    assert do(talk, "/subtitles") == said
    assert do(talk, "/subtitles off") == "without subtitles"
    assert talk.attachments[0].subtitles is None


def test_subtitles_command_finds_text_tracks(tmp_path: Path) -> None:
    inside = with_text_track(SUBTITLED, tmp_path / "inside.mkv")
    talk = talking.conversation(inside, max_frames=8)
    assert do(talk, "/subtitles auto").endswith("lines of subtitles near the frames")
    assert talk.attachments[0].subtitles == "00:01 Look at the cross."


def test_long_subtitles_are_cut_to_the_context(tmp_path: Path) -> None:
    many = tmp_path / "many.srt"
    many.write_text(
        "".join(f"00:00:0{n % 8},{n:03} --> 00:00:09,000\nWord {n} of it.\n\n" for n in range(900))
    )
    talk = talking.conversation(SUBTITLED, max_frames=8)
    assert do(talk, f"/subtitles {many}").endswith("of 900 subtitles near the frames have room")
    assert len(talk.attachments[0].subtitles or "") <= 4000


@pytest.mark.parametrize(
    "line",
    [
        "/frames many", "/frames 0", "/frames 99999999999", "/frames 5000", "/zoom", "/zoom 1",
        "/zoom 3 1", "/zoom x y", "/zoom 900 1000", "/add", "/add nothere.mp4",
        "/subtitles nothere.srt", "/subtitles a b", "/model a b", "/model no-such-model",
        "/save", "/save talk.exe", "/save nothere/talk.md", "/open",
    ],
)  # fmt: skip
def test_failed_commands_change_nothing(unchanged: Conversation, line: str) -> None:
    talk = unchanged
    before = (talk.settings, list(talk.attachments), list(talk.turns), talk.engine)
    with pytest.raises(SmolVideoError):
        do(talk, line)
    assert (talk.settings, list(talk.attachments), list(talk.turns), talk.engine) == before


def test_too_many_frames_error_names_the_chat_command(talk: Conversation) -> None:
    with pytest.raises(PromptError) as caught:
        do(talk, "/frames 5000")
    assert caught.value.hint is not None
    assert "`/frames " in caught.value.hint


def test_file_is_overwritten_only_on_request(talk: Conversation, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    do(talk, f"/save {path}")
    with pytest.raises(RecordError, match="exists already"):
        do(talk, f"/save {path}")
    do(talk, f"/save --overwrite {path}")
    assert json.loads(path.read_text())["turns"][0]["question"] == WHAT


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_html_transcript_escapes_hostile_text(talk: Conversation) -> None:
    talk.turns.append(Turn("<script>alert(1)</script>", "at 0:02 <img src=x onerror=alert(1)>"))
    page = export(".html", talk.settings, talk.attachments, talk.turns)
    tags = _Tags()
    tags.feed(page)
    assert "script" not in [tag for tag, _ in tags.tags]
    images = [attributes for tag, attributes in tags.tags if tag == "img"]
    assert len(images) == 16
    assert all(str(image["src"]).startswith("data:image/jpeg") for image in images)
    links = [attributes["href"] for tag, attributes in tags.tags if tag == "a"]
    ids = [attributes.get("id") for _, attributes in tags.tags]
    assert links
    assert all(str(link)[1:] in ids for link in links)


def test_markdown_transcript_shows_questions_verbatim(talk: Conversation) -> None:
    talk.turns.append(Turn("# *bold*?", "", "failed", error="no `room`", hint="less"))
    text = export(".md", talk.settings, talk.attachments, talk.turns)
    assert "## \\# \\*bold\\*?" in text
    assert "*Error: no \\`room\\`*" in text


def test_timestamps_in_answers_are_found() -> None:
    text = "It begins at 0:05, again 1:02:03; not 99:99, 12:34:56:78, 1:75 or 9:00."
    assert [moment.seconds for moment in find_timestamps(text, 4000)] == [5.0, 3723.0, 540.0]
    assert [text[moment.start : moment.end] for moment in find_timestamps(text, 60)] == ["0:05"]
    assert [moment.seconds for moment in find_timestamps("00:07.5", 60)] == [7.5]


@given(st.lists(st.floats(0, 1e4), min_size=1), st.floats(-10, 2e4))
def test_nearest_frame(times: list[float], seconds: float) -> None:
    times.sort()
    place = nearest_frame(times, seconds)
    assert abs(times[place] - seconds) == min(abs(time - seconds) for time in times)


@pytest.mark.skipif(sys.platform == "win32", reason="programs are shell scripts here")
def test_player_gets_the_time_and_the_file_name_verbatim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    player = tmp_path / "bin" / "mpv"
    player.parent.mkdir()
    player.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}.part; mv {told}.part {told}\n')
    player.chmod(player.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{player.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    video = tmp_path / "-v; touch hacked.mp4"
    playing = player_command(video, 72.4567)
    assert playing.seeks
    play(playing)
    deadline = time.monotonic() + 300
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert told.read_text().splitlines() == ["--start=72.457", str(video)]


def test_missing_player_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(UsageError, match="no video player"):
        player_command(TRIANGLE, 1.0)


def test_player_that_exits_at_once_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = tmp_path / "mpv"
    player.write_text("#!/bin/sh\nexit 3\n")
    player.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("smolvideo.conversation.timestamps._FAILS_WITHIN_SECONDS", 60)
    with pytest.raises(UsageError, match="`mpv` ended at once, with code 3"):
        play(player_command(TRIANGLE, 1.0))


@pytest.mark.parametrize("given", [{"strategy": "v1"}, {"strategy": "keyframes"}, {"fps": 0.5}, {}])
def test_frames_command_sets_the_frame_count(given: dict[str, object]) -> None:
    talk = Conversation(talking.settings(sampling=FrameSampling(**given)), talking.load)
    talk.attach([talking.source(SUBTITLED)])
    assert do(talk, "/frames 8") == "looking at 8 frames"
    assert do(talk, "/frames") == "frames in view: 8"
    assert len(set(talk.attachments[0].batch.pts_seconds)) == 8
