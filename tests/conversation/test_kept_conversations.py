"""Conversations on disk: complete event logs, locks, private files, safe names, size limits."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import talking
from support.talking import ANSWER, CIRCLE, TRIANGLE, WHAT, WHERE_TO
from support.terminals import environment

import smolvideo.conversation.store as sessions
from smolvideo.answer import Usage
from smolvideo.conversation import Conversation, Settings, Turn
from smolvideo.conversation.event_log import (
    LOG_NAME,
    EventLog,
    SavedConversation,
    frames_path,
    pixel_hash,
    read_event_log,
    read_frames,
    save_frames,
)
from smolvideo.conversation.resume import restore_attachments, resume
from smolvideo.conversation.store import create, delete, latest_id, list_sessions, reopen
from smolvideo.conversation.turns import settings_from_json, settings_to_json
from smolvideo.engines import GenerationOptions
from smolvideo.errors import RecordError, UsageError
from smolvideo.prompt import PromptOptions
from smolvideo.sampling import FrameSampling, RelativeTime


def keep(*paths: Path, questions: tuple[str, ...] = (WHAT,)) -> tuple[str, Conversation]:
    """Hold and close a conversation; return its id and the conversation."""
    with create(talking.settings()) as journal:
        talk = Conversation(talking.settings(), talking.load, store=journal)
        talk.attach([talking.source(path) for path in paths])
        for question in questions:
            talking.ask(talk, question)
    assert journal.problem is None
    return journal.folder.name, talk


def resumed(stack: ExitStack, name: str) -> tuple[Conversation, list[str], SavedConversation]:
    journal, kept = stack.enter_context(reopen(name))
    talk = resume(kept, talking.load, keeper=journal)
    return talk, restore_attachments(talk, kept, journal.folder), kept


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_saved_conversation_is_restored(stack: ExitStack) -> None:
    name, talk = keep(TRIANGLE, CIRCLE, questions=(WHAT, WHERE_TO))
    again, notes, _ = resumed(stack, name)
    assert notes == []
    assert again.turns == talk.turns
    assert again.settings == talk.settings
    for old, new in zip(talk.attachments, again.attachments, strict=True):
        assert np.array_equal(old.batch.images, new.batch.images)
        assert old.batch.pts_seconds == new.batch.pts_seconds
        assert old.batch.metadata == new.batch.metadata
    assert again.prepare("And?").prompt.token_ids == talk.prepare("And?").prompt.token_ids


def test_resumed_conversation_decodes_nothing(stack: ExitStack, tmp_path: Path) -> None:
    video = tmp_path / "moved away.mp4"
    video.write_bytes(TRIANGLE.read_bytes())
    name, _ = keep(video)
    video.unlink()
    again, notes, _ = resumed(stack, name)
    assert notes == []
    assert talking.ask(again, WHERE_TO) == "down"


def test_missing_frames_are_decoded_again_and_saved(stack: ExitStack) -> None:
    name, talk = keep(TRIANGLE)
    file = frames_path(sessions.conversation_folder(name), 1)
    file.write_bytes(file.read_bytes()[:-200])
    again, notes, _ = resumed(stack, name)
    assert notes == []
    assert np.array_equal(talk.attachments[0].batch.images, again.attachments[0].batch.images)
    stack.close()
    assert read_frames(file.parent, 1, again.attachments[0].batch.images.shape,
                       pixel_hash(talk.attachments[0].batch.images)) is not None  # fmt: skip


def test_missing_source_without_saved_frames_is_reported(stack: ExitStack, tmp_path: Path) -> None:
    video = tmp_path / "gone.mp4"
    video.write_bytes(TRIANGLE.read_bytes())
    name, _ = keep(video, CIRCLE)
    video.unlink()
    frames_path(sessions.conversation_folder(name), 1).unlink()
    again, notes, _ = resumed(stack, name)
    assert notes == ["`gone.mp4` cannot be looked at any longer: it is no longer where it was"]
    assert [look.number for look in again.attachments] == [2]
    assert talking.ask(again, "What moves?")


def test_changed_source_is_reported(stack: ExitStack, tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(TRIANGLE.read_bytes())
    name, _ = keep(video)
    frames_path(sessions.conversation_folder(name), 1).unlink()
    os.utime(video, (1, 1))
    _, notes, _ = resumed(stack, name)
    assert notes == ["`v.mp4` has changed since: it was looked at again"]


def test_conversation_without_questions_leaves_no_file() -> None:
    with create(talking.settings()) as journal:
        talk = Conversation(talking.settings(), talking.load, store=journal)
        talk.attach([talking.source(TRIANGLE)])
    assert list_sessions() == []
    assert not journal.folder.exists()


def test_undo_and_settings_are_saved(stack: ExitStack) -> None:
    with create(talking.settings()) as journal:
        talk = Conversation(talking.settings(), talking.load, store=journal)
        talk.attach([talking.source(TRIANGLE)])
        talking.ask(talk, WHAT)
        talking.ask(talk, "How many?")
        talk.undo()
        talk.zoom(talk.attachments[0], 1, 3)
        talk.resample(8)
        talk.set_subtitles(talk.attachments[1], "00:01 hello")
    again, _, _ = resumed(stack, journal.folder.name)
    assert [turn.question for turn in again.turns] == [WHAT]
    assert [len(look.batch) for look in again.attachments] == [8, 8]
    assert again.attachments[1].window == (1.0, 3.0)
    assert again.attachments[1].subtitles == "00:01 hello"
    assert again.settings.sampling.max_frames == 8


@pytest.mark.parametrize("lost", [1, 40, 200])
def test_partial_last_line_is_dropped(stack: ExitStack, lost: int) -> None:
    name, _ = keep(TRIANGLE, questions=(WHAT, WHERE_TO))
    path = sessions.conversation_folder(name) / LOG_NAME
    path.write_bytes(path.read_bytes()[:-lost])
    again, _, _ = resumed(stack, name)
    assert [turn.question for turn in again.turns] == [WHAT]
    talking.ask(again, WHERE_TO)
    stack.close()
    assert [turn.question for turn in read_event_log(path.parent).turns] == [WHAT, WHERE_TO]


def test_damaged_line_is_an_error_with_its_number(stack: ExitStack) -> None:
    name, _ = keep(TRIANGLE)
    path = sessions.conversation_folder(name) / LOG_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"turn": {"outcome": "odd"}}\n' + b"".join(lines[1:]))
    with pytest.raises(RecordError, match="damaged at line 2"):
        resumed(stack, name)
    assert [one.id for one in list_sessions()] == [name], "it can still be seen, and forgotten"
    delete(name)
    assert list_sessions() == []


@given(st.binary(max_size=400))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_event_log_is_read_or_a_record_error(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "any"
    folder.mkdir(exist_ok=True)
    header = json.dumps(
        {"session": "smolvideo.session/1", "created": "", "settings": {"model": "x"}}
    )
    for start in (b"", header.encode() + b"\n"):
        (folder / LOG_NAME).write_bytes(start + content)
        try:
            kept = read_event_log(folder)
        except RecordError:
            continue
        assert kept.settings.model == "x"


def test_second_process_gets_an_error(stack: ExitStack) -> None:
    name, _ = keep(TRIANGLE)
    stack.enter_context(reopen(name))
    code = (
        "import sys\n"
        "from smolvideo.conversation.store import delete, reopen\n"
        "for touch in (lambda: reopen(sys.argv[1]).__enter__(), lambda: delete(sys.argv[1])):\n"
        "    try:\n        touch()\n"
        "    except Exception as error:\n        print(error)\n"
    )
    environ = environment(SMOLVIDEO_DATA_DIR=os.environ["SMOLVIDEO_DATA_DIR"])
    run = subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, env=environ, check=True
    )
    assert run.stdout.count("open in another window") == 2


def _ask_for_ever(data: str) -> None:
    os.environ["SMOLVIDEO_DATA_DIR"] = data
    keep(TRIANGLE, questions=tuple(f"{WHAT} {number}" for number in range(1000)))


def test_killed_process_loses_no_finished_answer(stack: ExitStack) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_ask_for_ever, args=(os.environ["SMOLVIDEO_DATA_DIR"],))
    process.start()
    try:
        deadline = time.monotonic() + 300
        while not list_sessions() or list_sessions()[0].turns < 3:
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        seen = list_sessions()[0].turns
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    again, notes, _ = resumed(stack, latest_id())
    assert notes == []
    assert len(again.turns) >= seen
    assert talking.ask(again, WHERE_TO)


@pytest.mark.parametrize("name", ["", "..", "../../etc", "20261121-063206-565D", "a/b", "\x1b[31m"])
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no conversation"):
        sessions.conversation_folder(name)


def test_file_name_that_is_not_utf8_is_restored(stack: ExitStack, tmp_path: Path) -> None:
    video = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m \xe2\x80\xae\n.mp4"))
    video.write_bytes(TRIANGLE.read_bytes())
    name, _ = keep(video)
    again, notes, _ = resumed(stack, name)
    assert notes == []
    assert again.attachments[0].source.path == video
    listed = list_sessions()[0]
    assert "\x1b" not in listed.sources[0]
    assert "\n" not in listed.sources[0]


def test_unwritable_disk_loses_no_answer(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with create(talking.settings()) as journal:
        talk = Conversation(talking.settings(), talking.load, store=journal)
        talk.attach([talking.source(TRIANGLE)])
        assert talking.ask(talk, WHAT) == ANSWER
    assert journal.problem is not None
    assert "cannot be kept" in journal.problem


def test_files_are_readable_by_the_owner_only() -> None:
    name, _ = keep(TRIANGLE)
    folder = sessions.conversation_folder(name)
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / LOG_NAME).stat().st_mode & 0o077 == 0


def test_old_frames_are_deleted_before_old_conversations(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [keep(TRIANGLE)[0] for _ in range(3)]
    for place, name in enumerate(names):
        os.utime(sessions.conversation_folder(name) / LOG_NAME, (place + 1, place + 1))
    size = frames_path(sessions.conversation_folder(names[0]), 1).stat().st_size
    monkeypatch.setattr(sessions, "MAX_BYTES", int(size * 2.5))
    with create(talking.settings()):
        pass
    there = [frames_path(sessions.conversation_folder(name), 1).exists() for name in names]
    assert there == [False, True, True]
    monkeypatch.setattr(sessions, "MAX_CONVERSATIONS", 1)
    with create(talking.settings()):
        pass
    assert [one.id for one in list_sessions()] == names[2:]


def test_frames_are_saved_lossless_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    save_frames(tmp_path, 1, images)
    back = read_frames(tmp_path, 1, images.shape, pixel_hash(images))
    assert back is not None
    assert np.array_equal(back, images)
    assert read_frames(tmp_path, 1, images.shape, pixel_hash(images + 1)) is None
    assert read_frames(tmp_path, 1, (3, 7, 5, 3), pixel_hash(images)) is None
    assert read_frames(tmp_path, 2, images.shape, pixel_hash(images)) is None
    monkeypatch.setattr("smolvideo.conversation.event_log.MAX_PIXELS", 100)
    save_frames(tmp_path, 3, images)
    assert not frames_path(tmp_path, 3).exists()
    assert [file.name for file in tmp_path.iterdir()] == ["frames-1.png"]


def test_settings_round_trip() -> None:
    kept = Settings(
        "nano",
        revision="abc",
        sampling=FrameSampling(max_frames=7, start_seconds=RelativeTime(0.25), end_seconds=9.5),
        prompt_options=PromptOptions(geometry="pad", split_images=False),
        generation=GenerationOptions(temperature=0.5, seed=3, stop=("a", "b")),
    )
    assert settings_from_json(json.loads(json.dumps(settings_to_json(kept)))) == kept


@given(
    st.builds(
        Turn,
        question=st.text(),
        text=st.text(),
        outcome=st.sampled_from(["answered", "stopped"]),
        usage=st.none() | st.builds(Usage, st.integers(), st.integers(), st.integers()),
        model=st.text(),
        notices=st.lists(st.text()).map(tuple),
    )
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_turn_round_trip(tmp_path: Path, turn: Turn) -> None:
    (tmp_path / "one").mkdir(exist_ok=True)
    (tmp_path / "one" / LOG_NAME).unlink(missing_ok=True)
    journal = EventLog(tmp_path / "one", Settings("nano"))
    journal.save_turn(turn)
    journal.close()
    assert read_event_log(tmp_path / "one").turns == (turn,)


def test_history_has_each_question_once() -> None:
    keep(TRIANGLE, questions=(WHAT, WHERE_TO, WHAT))
    assert sessions.question_history() == [WHERE_TO, WHAT]


def test_missing_conversation_is_an_error() -> None:
    with pytest.raises(RecordError, match="no conversation to continue"):
        latest_id()
