"""Token counts of prompts: exact, before any decoding, and cheap."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.toy_checkpoint import write_toy_checkpoint

from smolvideo.errors import PromptError
from smolvideo.frames import FrameBatch, FramePlan, VideoMetadata
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.prompt import (
    Message,
    PromptOptions,
    check_budget,
    count_tokens,
    max_frames_that_fit,
    pack_prompt,
)
from smolvideo.prompt.pack import max_frame_count, subsample_frames

TOY: dict[str, Checkpoint] = {}


@pytest.fixture(scope="module", autouse=True)
def toys(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Return toy checkpoints by layout; hypothesis cannot use function fixtures."""
    folder = tmp_path_factory.mktemp("toys")
    for layout, family in (("smolvlm", "idefics3"), ("smolvlm2", "smolvlm"), ("nano", "smolvlm")):
        path = write_toy_checkpoint(folder / layout, model_type=family, layout=layout)
        TOY[layout] = open_checkpoint(str(path))


def plan(frames: int, *, last: float = 60.0, name: str = "clip.mp4") -> FramePlan:
    times = tuple(np.linspace(0.0, last, frames).tolist())
    return FramePlan(times, VideoMetadata(64, 36, last, name=name))


def asked(*content: str | FrameBatch | FramePlan) -> list[Message]:
    return [Message("user", content)]


def decoded(item: str | FramePlan) -> str | FrameBatch:
    if isinstance(item, str):
        return item
    shape = (len(item), item.metadata.height, item.metadata.width, 3)
    return FrameBatch(np.zeros(shape, np.uint8), item.pts_seconds, item.metadata)


media = st.builds(
    FramePlan,
    st.lists(st.floats(0, 20_000), min_size=1, max_size=4).map(lambda times: tuple(sorted(times))),
    st.builds(
        VideoMetadata,
        width=st.integers(1, 90),
        height=st.integers(1, 90),
        duration_seconds=st.floats(0, 20_000),
        kind=st.sampled_from(["video", "frames"]),
    ),
)
picture = st.builds(
    FramePlan,
    st.just((0.0,)),
    st.builds(
        VideoMetadata,
        width=st.integers(1, 90),
        height=st.integers(1, 90),
        duration_seconds=st.just(0.0),
        kind=st.just("image"),
    ),
)
items = st.lists(st.one_of(st.text(max_size=20), media, picture), max_size=4)
turns = st.builds(
    lambda history, last, question: [
        *(
            Message("user" if n % 2 == 0 else "assistant", tuple(t))
            for n, t in enumerate(history)
            if t
        ),
        Message("user", (*last, question)),
    ],
    st.lists(items, max_size=2),
    items,
    st.text(min_size=1, max_size=20).filter(lambda text: text.strip()),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    turns,
    st.sampled_from(["smolvlm", "smolvlm2", "nano"]),
    st.sampled_from([None, "smolvlm", "smolvlm2", "nano"]),
    st.sampled_from([None, False, True]),
)
def test_count_tokens_equals_the_packed_prompt(
    messages: list[Message], name: str, layout, split
) -> None:  # type: ignore[no-untyped-def]
    checkpoint = TOY[name]
    splits = None if (layout or name) == "nano" and split else split
    options = PromptOptions(layout=layout, split_images=splits)
    counted = count_tokens(messages, checkpoint, options)
    shown = [Message(m.role, tuple(decoded(item) for item in m.content)) for m in messages]  # type: ignore[arg-type]
    prompt = pack_prompt(shown, checkpoint, options)
    assert counted == len(prompt) == count_tokens(shown, checkpoint, options)
    squares = prompt.token_ids.count(checkpoint.image_token_id)
    assert squares == checkpoint.tokens_per_image * len(prompt.images)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 200),
    st.integers(1, 1200),
    st.floats(0.1, 20_000),
    st.sampled_from(["smolvlm", "smolvlm2", "nano"]),
)
def test_max_frames_fit_and_one_more_does_not(
    frames: int, max_new_tokens: int, last: float, name: str
) -> None:
    checkpoint = TOY[name]

    def messages_of(kept: int) -> list[Message]:
        return asked(plan(kept, last=last), "What happens?")

    fit = max_frames_that_fit(
        messages_of, checkpoint, max_new_tokens=max_new_tokens, max_frames=frames
    )
    room = checkpoint.context_tokens - max_new_tokens
    assert 1 <= fit <= frames
    assert count_tokens(messages_of(fit), checkpoint) <= room
    assert fit == frames or count_tokens(messages_of(fit + 1), checkpoint) > room


def test_max_frames_of_several_videos_share_the_context() -> None:
    checkpoint = TOY["smolvlm2"]
    two = asked(plan(300), plan(40), "Which is longer?")
    one = asked(plan(300), "Which is longer?")
    fit = max_frames_that_fit(two, checkpoint, max_new_tokens=100)
    assert fit < max_frames_that_fit(one, checkpoint, max_new_tokens=100)
    pair = asked(plan(fit), plan(min(fit, 40)), "Which is longer?")
    assert count_tokens(pair, checkpoint) + 100 <= checkpoint.context_tokens
    assert max_frames_that_fit(asked(plan(3), "?"), checkpoint, max_new_tokens=100) == 3
    assert (
        max_frames_that_fit(asked(plan(300), "?"), checkpoint, max_new_tokens=100, max_frames=5)
        == 5
    )
    assert max_frames_that_fit(asked("?"), checkpoint, max_new_tokens=100) == 0


def test_frames_of_earlier_turns_are_counted() -> None:
    checkpoint = TOY["smolvlm2"]
    history = [*asked(plan(300), "What?"), Message("assistant", ("A cat. " * 50,)), *asked("And?")]
    assert max_frames_that_fit(history, checkpoint, max_new_tokens=9) < max_frames_that_fit(
        asked(plan(300), "What?"), checkpoint, max_new_tokens=9
    )


def test_too_many_frames_error_names_the_number_that_fits() -> None:
    checkpoint = TOY["smolvlm2"]
    messages = asked(plan(300), "What happens?")
    with pytest.raises(
        PromptError, match=r"^300 frames and the text take [\d,]+ tokens; "
    ) as caught:
        check_budget(messages, checkpoint, max_new_tokens=256)
    assert "room for 1,792 (2,048 less 256 for the answer)" in str(caught.value)
    fit = max_frames_that_fit(messages, checkpoint, max_new_tokens=256)
    assert caught.value.hint == f"`--max-frames {fit}` fits"
    kept = asked(plan(fit), "What happens?")
    assert check_budget(kept, checkpoint, max_new_tokens=256) == count_tokens(kept, checkpoint)


def test_too_many_frames_of_several_videos_are_summed() -> None:
    checkpoint = TOY["smolvlm2"]
    messages = asked(plan(300), plan(40), "Which?")
    with pytest.raises(PromptError, match=r"^340 frames and the text take") as caught:
        check_budget(messages, checkpoint, max_new_tokens=256)
    fit = max_frames_that_fit(messages, checkpoint, max_new_tokens=256)
    assert caught.value.hint == f"{fit} of each video fit"


def test_hint_for_videos_of_different_lengths_uses_the_longest() -> None:
    """``--max-frames`` is per video, so a short video does not bound it."""
    checkpoint = TOY["smolvlm2"]
    messages = asked(plan(300), plan(2), "Which?")
    assert max_frame_count(messages) == 300
    fit = max_frames_that_fit(messages, checkpoint, max_new_tokens=256)
    assert 2 < fit < 300
    fits, more = (
        count_tokens(subsample_frames(messages, frames), checkpoint) + 256
        for frames in (fit, fit + 1)
    )
    assert fits <= checkpoint.context_tokens < more


def test_prompt_must_leave_context_for_one_token() -> None:
    with pytest.raises(PromptError, match="300 frames and the text take"):
        pack_prompt(asked(decoded(plan(300)), "What happens?"), TOY["smolvlm2"])


@pytest.mark.parametrize("content", [("word " * 3000,), (plan(2), "word " * 3000)])
def test_text_over_the_context_is_an_error(content: tuple[str | FramePlan, ...]) -> None:
    for call in (check_budget, max_frames_that_fit):
        with pytest.raises(PromptError, match=r"^the text alone takes [\d,]+ tokens") as caught:
            call(asked(*content), TOY["smolvlm2"], max_new_tokens=16)
        assert "shorten" in str(caught.value.hint)


def test_answer_over_the_context_is_an_error() -> None:
    with pytest.raises(PromptError, match="5,000 tokens leaves no room") as caught:
        check_budget(asked("Why?"), TOY["smolvlm2"], max_new_tokens=5000)
    assert "--max-new-tokens" in str(caught.value.hint)


def test_context_without_space_for_a_frame_is_an_error() -> None:
    many = [plan(3, name=f"{n}.mp4") for n in range(60)]
    with pytest.raises(PromptError, match="not one frame fits"):
        max_frames_that_fit(asked(*many, "Which?"), TOY["smolvlm2"], max_new_tokens=16)


def test_too_many_images_are_an_error() -> None:
    pictures = [FramePlan((0.0,), VideoMetadata(64, 36, 0.0, kind="image")) for _ in range(400)]
    with pytest.raises(PromptError, match="the pictures and the text take") as caught:
        check_budget(asked(*pictures, "Which?"), TOY["smolvlm2"])
    assert "fewer pictures" in str(caught.value.hint)


def test_message_function_requires_max_frames() -> None:
    with pytest.raises(ValueError, match="max_frames"):
        max_frames_that_fit(lambda kept: asked(plan(kept), "?"), TOY["nano"], max_new_tokens=1)


def test_counting_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of frames is bisected, and each text is tokenized once per count."""
    from smolvideo.prompt import pack, templates

    counts, texts = [], []
    count, encode_text = pack.count_tokens_of_parts, templates._encode_text
    monkeypatch.setattr(
        pack, "count_tokens_of_parts", lambda *given: counts.append(1) or count(*given)
    )
    monkeypatch.setattr(
        templates, "_encode_text", lambda *given: texts.append(1) or encode_text(*given)
    )
    max_frames_that_fit(asked(plan(3000), "What happens?"), TOY["smolvlm2"], max_new_tokens=256)
    assert 3 < len(counts) <= 3 + math.ceil(math.log2(3000))
    # One text per frame: 3,000 in the first count, half as many in the next, and so on.
    assert len(texts) < 3 * 3000
