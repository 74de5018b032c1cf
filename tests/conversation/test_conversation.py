"""Conversations: attachments, follow-ups, stopping, undo, model switches, trimming to the
context.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import talking, tinymodels
from support.talking import ANSWER, CIRCLE, SUBTITLED, TRIANGLE, WHAT, WHERE_TO

import smolvideo
from smolvideo.answer import AnswerStream
from smolvideo.conversation import Attachment, Conversation, Turn
from smolvideo.conversation.context import (
    Context,
    build_messages,
    describe_trimmed,
    trim_to_context,
)
from smolvideo.conversation.export import export
from smolvideo.conversation.resume import attach_sources
from smolvideo.conversation.turns import attachment_label
from smolvideo.engines import GenerationOptions, NativeEngine, frame_encoder, load_engine
from smolvideo.errors import ModelError, PromptError, ReaderError, SourceError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.pipeline import NANO_NOTICE
from smolvideo.progress import Progress
from smolvideo.prompt import PromptOptions, count_tokens
from smolvideo.sampling import FrameSampling

BACKGROUND = "What colour is the background at the end?"


@pytest.fixture
def encoded() -> Iterator[list[int]]:
    """Record how many frames each call of the vision tower encodes."""
    engine = talking.nano()
    assert isinstance(engine, NativeEngine)
    sizes: list[int] = []
    hook = engine.network.model.vision_model.register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0]))
    )
    yield sizes
    hook.remove()


@pytest.fixture
def read_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record how many tokens each call of the decoder processes."""
    engine = talking.nano()
    assert isinstance(engine, NativeEngine)
    kind, rows = type(engine.network.model.text_model), []
    read = kind.prefill

    def watched(self, x, cache, *, num_logits=1):  # type: ignore[no-untyped-def]
        rows.append(x.shape[1])
        return read(self, x, cache, num_logits=num_logits)

    monkeypatch.setattr(kind, "prefill", watched)
    return rows


def test_first_answer_equals_ask() -> None:
    talk = talking.conversation(TRIANGLE)
    sampling = FrameSampling(max_frames=16)
    once = smolvideo.ask(talking.nano(), TRIANGLE, WHAT, sampling=sampling)
    assert talking.ask(talk, WHAT) == once.text == ANSWER
    usage = talk.turns[0].usage
    assert usage is not None
    assert usage.prompt_tokens == once.usage.prompt_tokens
    assert set(usage.seconds) == {"decode", "encode", "prefill", "generate"}


def test_follow_up_encodes_nothing_and_prefills_only_new_tokens(
    encoded: list[int], read_rows: list[int]
) -> None:
    talk = talking.conversation(TRIANGLE)
    talking.ask(talk, WHAT)
    first = talk.turns[0].usage
    assert first is not None
    assert sum(encoded) == 16
    encoded.clear()
    read_rows.clear()
    assert talking.ask(talk, WHERE_TO) == "down"
    second = talk.turns[1].usage
    assert second is not None
    assert encoded == []
    assert read_rows[0] == second.prompt_tokens - first.prompt_tokens
    assert "decode" not in second.seconds


def test_prefill_in_advance_leaves_only_the_question(
    encoded: list[int], read_rows: list[int]
) -> None:
    talk = talking.conversation(TRIANGLE)
    talk.prefill()
    encoded.clear()
    read_rows.clear()
    assert talking.ask(talk, WHAT) == ANSWER
    assert encoded == []
    assert read_rows[0] < 20


def test_engine_without_sessions_answers() -> None:
    engine = load_engine("nano", engine="transformers", device="cpu")
    talk = Conversation(talking.settings(), lambda settings, on_progress: engine)
    talk.attach([talking.source(TRIANGLE)])
    talk.prefill()
    assert talking.ask(talk, WHAT) == ANSWER
    assert talking.ask(talk, WHERE_TO) == "down"


def test_prompt_contains_earlier_turns() -> None:
    talk = talking.conversation(TRIANGLE)
    talking.ask(talk, WHAT)
    roles = [message.role for message in talk.prepare(WHERE_TO).messages]
    assert roles == ["user", "assistant", "user"]
    assert talk.prepare(WHERE_TO).messages[1].content == (ANSWER,)


def test_stopped_answer_is_kept_in_part() -> None:
    talk = talking.conversation(TRIANGLE)
    asked = talk.ask(WHAT)
    pieces = []
    for piece in asked:
        pieces.append(piece)
        if len(pieces) == 3:
            asked.stop()
    turn = asked.turn
    assert turn is talk.turns[0]
    assert (turn.outcome, turn.text) == ("stopped", "".join(pieces))
    assert ANSWER.startswith(turn.text)
    assert turn.usage is not None
    assert turn.usage.answer_tokens >= 3
    assert talking.ask(talk, WHERE_TO) == "down"


def test_stopping_while_frames_are_encoded_keeps_the_conversation(
    encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(frame_encoder._MAX_PATCHES_PER_CHUNK, "cpu", 2 * 64)  # two frames
    talk = talking.conversation(TRIANGLE)

    def stop(progress: Progress) -> None:
        if progress.stage == "encode" and progress.done:
            asked.stop()

    asked = talk.ask(WHAT, on_progress=stop)
    assert list(asked) == []
    assert asked.turn is not None
    assert asked.turn.outcome == "stopped"
    assert sum(encoded) < 16
    assert not asked.turn.is_in_history
    assert talking.ask(talk, WHAT) == ANSWER
    assert [message.role for message in talk.prepare(WHAT).messages] == [
        "user", "assistant", "user",
    ]  # fmt: skip


def test_closing_the_iterator_stops_the_answer() -> None:
    talk = talking.conversation(TRIANGLE)
    pieces = iter(talk.ask(WHAT))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert talk.turns[0].outcome == "stopped"


def test_failed_turn_is_shown_but_not_in_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = talking.conversation(TRIANGLE)
    asked = talk.ask("x " * 3000)
    assert list(asked) == []
    assert isinstance(asked.error, PromptError)
    assert talk.turns[0].outcome == "failed"
    assert talk.turns[0].error == str(asked.error)
    assert talking.ask(talk, WHAT) == ANSWER


def test_internal_error_fails_only_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = talking.conversation(TRIANGLE)

    def broken(*_: object, **__: object) -> AnswerStream:
        raise ZeroDivisionError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr("smolvideo.engines.Session.stream", broken)
        asked = talk.ask(WHAT)
        assert list(asked) == []
    assert "ZeroDivisionError: a fault" in str(asked.error)
    assert isinstance(asked.error.__cause__, ZeroDivisionError)
    assert talking.ask(talk, WHAT) == ANSWER


def test_undo_restores_the_state_before_the_question() -> None:
    talk = talking.conversation(TRIANGLE)
    assert talk.undo() is None
    talking.ask(talk, WHAT)
    before = talk.prepare(WHERE_TO).prompt.token_ids
    talking.ask(talk, "How many things are there?")
    turn = talk.undo()
    assert turn is not None
    assert turn.question == "How many things are there?"
    assert talk.prepare(WHERE_TO).prompt.token_ids == before


def test_several_sources_share_the_frames_and_are_labelled() -> None:
    talk = talking.conversation(TRIANGLE, CIRCLE)
    assert [len(look.batch) for look in talk.attachments] == [8, 8]
    text = talk.prepare(WHAT).prompt.text
    assert text.index("Video 1:") < text.index("Video 2:")


def test_added_source_keeps_the_cached_prefix() -> None:
    talk = talking.conversation(TRIANGLE)
    talking.ask(talk, WHAT)
    assert talking.ask(talking.conversation(TRIANGLE), BACKGROUND) == "grey"
    before = talk.prepare(WHERE_TO).prompt.token_ids
    talk.attach([talking.source(CIRCLE)])
    after = talk.prepare(WHERE_TO).prompt
    common = next(at for at, (a, b) in enumerate(zip(before, after.token_ids)) if a != b)  # noqa: B905
    assert common > before.index(talking.nano().checkpoint.image_token_id) + 16
    assert "Video 1:" not in after.text
    assert "Video 2:" in after.text
    assert len(after.images) == 32
    assert talking.ask(talk, BACKGROUND) == "brown"


def test_zoom_samples_the_window_with_the_full_frame_count() -> None:
    talk = talking.conversation(TRIANGLE)
    zoomed = talk.zoom(talk.attachments[0], 1.0, 3.0)
    assert len(zoomed.batch) == 16
    assert all(1.0 <= time <= 3.0 for time in zoomed.batch.pts_seconds)
    assert attachment_label(zoomed, talk.attachments) == "Video 1 from 00:01 to 00:03:\n"
    with pytest.raises(UsageError, match="after its start"):
        talk.zoom(talk.attachments[0], 3.0, 1.0)
    with pytest.raises(ReaderError):
        talk.zoom(talk.attachments[0], 500.0, 600.0)
    assert len(talk.attachments) == 2


def test_changing_the_frame_count_reloads_the_frames() -> None:
    talk = talking.conversation(TRIANGLE, CIRCLE)
    talking.ask(talk, WHAT)
    talk.resample(30)
    assert [len(look.batch) for look in talk.attachments] == [15, 15]
    assert [look.number for look in talk.attachments] == [1, 2]
    assert len(talk.turns) == 1
    with pytest.raises(PromptError) as caught:
        talk.resample(2000)
    assert caught.value.hint is not None
    assert "fits" in caught.value.hint
    assert [len(look.batch) for look in talk.attachments] == [15, 15]


def test_switched_model_gets_the_same_history(tmp_path: Path) -> None:
    folder = tinymodels.make_tiny(tmp_path / "tiny")
    talk = talking.conversation(TRIANGLE)
    talking.ask(talk, WHAT)
    engine = talk.switch_model(str(folder))
    assert engine.checkpoint.name == talk.settings.model.rpartition("/")[2] == "tiny"
    assert talk.attachments[0].batch.images.shape[1:3] == (32, 32)
    talking.ask(talk, WHERE_TO)
    assert ANSWER in talk.prepare("And?").prompt.text


def test_failed_model_switch_keeps_the_current_model() -> None:
    talk = talking.conversation(TRIANGLE)
    with pytest.raises(ModelError):
        talk.switch_model("no-such-model")
    assert talk.settings.model == "nano"
    assert talking.ask(talk, WHAT) == ANSWER


def test_subtitles_follow_the_frames() -> None:
    talk = talking.conversation(SUBTITLED)
    talk.set_subtitles(talk.attachments[0], "00:01 hello")
    text = talk.prepare(WHAT).prompt.text
    assert text.rindex("<image") < text.index("00:01 hello") < text.index(WHAT)
    talk.set_subtitles(talk.attachments[0], None)
    assert "hello" not in talk.prepare(WHAT).prompt.text


def test_image_can_join_a_conversation_with_a_window(tmp_path: Path) -> None:
    picture, broken = tmp_path / "still.png", tmp_path / "broken.mp4"
    Image.new("RGB", (64, 48), "red").save(picture)
    broken.write_bytes(b"\0" * 100)
    window = talking.settings(sampling=FrameSampling(max_frames=4, start_seconds=1.0))
    talk = Conversation(window, talking.load)
    with pytest.raises(UsageError, match=r"`still\.png` is a still picture"):
        attach_sources(talk, [str(picture)])
    not_seen = attach_sources(talk, [str(CIRCLE), str(broken), str(picture)])
    assert [one.name for one in not_seen] == ["broken.mp4"]
    talk.attach([talking.source(picture)])
    assert [look.batch.pts_seconds[0] for look in talk.attachments] == [1.0, 0.0, 0.0]


def test_missing_source_or_question_is_an_error() -> None:
    talk = talking.conversation()
    with pytest.raises(PromptError, match="nothing to look at"):
        talk.prepare(WHAT)
    with pytest.raises(PromptError, match="empty"):
        talking.conversation(TRIANGLE).prepare("  ")


def test_bad_source_is_reported_and_the_others_are_attached(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "junk.mp4").write_bytes(b"\0\1\2\3" * 999)
    talk = talking.conversation()
    not_seen = attach_sources(
        talk,
        [str(TRIANGLE), str(tmp_path / "empty.mp4"), str(tmp_path / "junk.mp4"), "nothere.mp4"],
    )
    assert [look.source.name for look in talk.attachments] == ["triangle_down.mp4"]
    assert len(talk.attachments[0].batch) == 16
    assert {type(one.error) for one in not_seen} == {SourceError, ReaderError}
    assert len(not_seen) == 3


def test_every_answer_about_real_footage_has_the_notice(tmp_path: Path) -> None:
    from support.clipmaker import evenly, write_clip

    write_clip(tmp_path / "a.mp4", evenly(20, 10))
    talk = talking.conversation(tmp_path / "a.mp4")
    talking.ask(talk, WHAT)
    talking.ask(talk, WHAT)
    for turn in talk.turns:
        assert [notice for notice in turn.notices if "drawn scenes" in notice] == [NANO_NOTICE]
    for suffix in (".md", ".html", ".json"):
        text = export(suffix, talk.settings, talk.attachments, talk.turns)
        assert text.count("trained on drawn scenes") == 2, suffix


# Trimming to the context ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return talking.nano().checkpoint


@pytest.fixture(scope="module")
def look() -> Attachment:
    return talking.conversation(TRIANGLE, max_frames=50).attachments[0]


def turns_of(lengths: list[int]) -> list[Turn]:
    return [Turn(f"question {place}?", "word " * length) for place, length in enumerate(lengths)]


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 300), max_size=12),
    zooms=st.lists(st.integers(0, 12), max_size=3),
    max_new_tokens=st.integers(1, 300),
)
def test_trimmed_prompt_fits_and_keeps_the_latest_turns(
    lengths: list[int],
    zooms: list[int],
    max_new_tokens: int,
    look: Attachment,
    checkpoint: Checkpoint,
) -> None:
    turns = turns_of(lengths)
    places = [0, *sorted(zooms)]
    looks = [replace(look, number=number, turn=turn) for number, turn in enumerate(places)]
    options = PromptOptions()
    told = trim_to_context(looks, turns, WHAT, checkpoint, options, max_new_tokens=max_new_tokens)
    assert told.tokens == count_tokens(told.messages, checkpoint, options)
    new = sum(one.turn >= len(turns) for one in looks)
    if new <= 2:  # three attachments of one question exceed nano's context
        assert told.tokens + max_new_tokens <= checkpoint.context_tokens
    assert told.messages[-1].content[-1] == WHAT
    said = [turn.text.strip() for turn in turns[told.first_turn :] if turn.is_in_history]
    answers = [message.content[0] for message in told.messages if message.role == "assistant"]
    assert answers == said
    shown = [
        item for message in told.messages for item in message.content if not isinstance(item, str)
    ]
    assert len(shown) == len(looks) - told.first_attachment
    whole = build_messages(looks, turns, WHAT)
    if count_tokens(whole, checkpoint, options) + max_new_tokens <= checkpoint.context_tokens:
        assert told.messages == whole


def test_trimming_is_rare_and_reported(look: Attachment, checkpoint: Checkpoint) -> None:
    turns: list[Turn] = []
    told, cuts, sentences = Context(()), 0, []
    for place in range(60):
        before = told
        told = trim_to_context(
            [look], turns, WHAT, checkpoint, PromptOptions(), max_new_tokens=64, previous=before
        )
        cuts += told.first_turn != before.first_turn
        sentences += describe_trimmed(before, told, [look], turns)
        assert told.first_turn >= before.first_turn
        turns.append(Turn(f"question {place}?", "word " * 30))
    assert 2 <= cuts <= 20
    assert len(sentences) == cuts
    assert "no longer fit the context" in sentences[0]


def test_oldest_frames_are_dropped_for_new_ones(look: Attachment) -> None:
    talk = talking.conversation(TRIANGLE, max_frames=50)
    talking.ask(talk, WHAT)
    for start in range(5):
        talk.zoom(talk.attachments[0], start, start + 2)
        talking.ask(talk, WHERE_TO)
    assert talk.context.first_attachment > 0
    said = [notice for turn in talk.turns for notice in turn.notices]
    assert "the frames of `triangle_down.mp4` no longer fit the context" in said


def test_frames_leave_context_for_history() -> None:
    talk = Conversation(
        talking.settings(200, generation=GenerationOptions(max_new_tokens=64)), talking.load
    )
    talk.attach([talking.source(SUBTITLED)])
    prepared = talk.prepare(WHAT)
    context = talking.nano().checkpoint.context_tokens
    assert len(prepared.prompt) + 64 <= context - context // 10
