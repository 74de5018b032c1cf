"""Prompt formats smolvlm2, smolvlm and nano: published token counts, and the exact text."""

import json
from pathlib import Path

import pytest
from support.prompt_parts import V1_2B, V1_256M, V2_2B, V2_256M, V2_500M, asked, decoded, planned
from support.toy_checkpoint import write_toy_checkpoint

from smolvideo.errors import PromptError, UsageError
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.prompt import Message, Prompt, PromptOptions, count_tokens, pack_prompt
from smolvideo.prompt.templates import render_messages, to_display_text


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(str(write_toy_checkpoint(tmp_path_factory.mktemp("toy") / "toy")))


@pytest.fixture(scope="module")
def toy_v1(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("toy") / "v1"
    return open_checkpoint(str(write_toy_checkpoint(folder, model_type="idefics3")))


@pytest.fixture(scope="module")
def toy_nano(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("toy") / "nano"
    return open_checkpoint(str(write_toy_checkpoint(folder, layout="nano")))


@pytest.fixture(scope="module")
def published(processor_files: Path):  # type: ignore[no-untyped-def]
    opened: dict[str, Checkpoint] = {}

    def open_once(name: str) -> Checkpoint:
        if name not in opened:
            opened[name] = open_checkpoint(str(processor_files / name), weights=False)
        return opened[name]

    return open_once


# ------------------------------------------------------- the published figures


@pytest.mark.checkpoints
def test_text_only_prompt_equals_transformers(published) -> None:  # type: ignore[no-untyped-def]
    """Token ids of transformers for this question on SmolVLM-500M."""
    prompt = pack_prompt(asked("What is the capital of France?"), published(V2_500M))
    assert prompt.token_ids == (
        1, 11126, 42, 1812, 314, 260, 3575, 282, 4649, 47, 49279, 198, 9519, 9531, 42,
    )  # fmt: skip
    assert prompt.images.shape == (0, 512, 512, 3)
    assert prompt.text == (
        "<|im_start|>User: What is the capital of France?<end_of_utterance>\nAssistant:"
    )


@pytest.mark.checkpoints
def test_v1_fifty_frames_token_count(published) -> None:  # type: ignore[no-untyped-def]
    """4414 tokens, 4050 of them images; 88 per frame because `<global-img>` is five tokens."""
    checkpoint = published(V1_2B)
    batch = decoded(planned(*range(50), duration=50.0, size=(36, 64)))
    prompt = pack_prompt(asked(batch, "Describe the video"), checkpoint)
    assert len(prompt) == 4414
    assert prompt.token_ids.count(checkpoint.image_token_id) == 4050
    assert prompt.images.shape == (50, 384, 384, 3)
    fewer = pack_prompt(
        asked(decoded(planned(*range(49), size=(36, 64))), "Describe the video"), checkpoint
    )
    assert len(prompt) - len(fewer) == 88


@pytest.mark.checkpoints
def test_smolvlm2_three_frames_equal_transformers(published) -> None:  # type: ignore[no-untyped-def]
    """Token ids of transformers' processor for frames at 0, 1 and 2 s of 3 s."""
    checkpoint = published(V2_500M)
    prompt = pack_prompt(asked(decoded(planned(0.0, 1.0, 2.0, duration=3.0)), "hi"), checkpoint)
    intro = [
        359, 2711, 260, 1695, 3086, 282, 1296, 13017, 429, 253, 216, 32, 42, 32, 32, 42, 32, 35,
        933, 56, 42, 11362, 42, 6690, 77, 3341, 30, 198, 198, 9967, 429, 216, 32, 32, 42, 32, 32,
        42, 49189,
    ]  # fmt: skip
    assert list(prompt.token_ids[:4]) == [1, 11126, 42, 1206]
    assert list(prompt.token_ids[4 : 4 + len(intro)]) == intro
    # 263 without a template: the start, "User:", the turn's end, a newline and "Assistant:".
    assert len(prompt) == 263 + 3 + 5


@pytest.mark.checkpoints
@pytest.mark.parametrize(
    ("name", "per_frame"), [(V1_2B, 88), (V1_256M, 67), (V2_256M, 77), (V2_500M, 77), (V2_2B, 94)]
)
def test_tokens_per_additional_frame(published, name: str, per_frame: int) -> None:  # type: ignore[no-untyped-def]
    sixteen, seventeen = (
        count_tokens(asked(planned(*range(n), duration=60.0), "hi"), published(name))
        for n in (16, 17)
    )
    assert seventeen - sixteen == per_frame


@pytest.mark.checkpoints
@pytest.mark.parametrize(("name", "frames_alone"), [(V2_256M, 4928), (V2_2B, 6016)])
def test_sixty_four_frames_token_count(published, name: str, frames_alone: int) -> None:  # type: ignore[no-untyped-def]
    words = 31 + 1 + 1 + 9  # introduction, the two newlines, "x", and the chat template
    total = count_tokens(asked(planned(*range(64), duration=64.0), "x"), published(name))
    assert total == frames_alone + words


@pytest.mark.checkpoints
@pytest.mark.parametrize(
    ("name", "size", "tokens", "squares"),
    [(V2_500M, (360, 640), 871, 13), (V1_2B, (200, 300), 1183 + 9, 13)],  # 9: template and "hi"
)
def test_image_is_split_into_tiles(  # type: ignore[no-untyped-def]
    published, name: str, size: tuple[int, int], tokens: int, squares: int
) -> None:
    prompt = pack_prompt(
        asked(decoded(planned(0.0, kind="image", size=size)), "hi"), published(name)
    )
    assert (len(prompt), len(prompt.images)) == (tokens, squares)


# ------------------------------------------------------------------ prompt text


def test_smolvlm2_text(toy: Checkpoint) -> None:
    prompt = pack_prompt(asked(decoded(planned(0.4, 75.9, duration=76.2)), "And?"), toy)
    image = "<fake_token_around_image><global-img><image ×4><fake_token_around_image>"  # noqa: RUF001
    assert prompt.text == (
        "<|im_start|>User: You are provided the following series of two frames from a 0:01:16 "
        f"[H:MM:SS] video.\n\nFrame from 00:00:{image}\nFrame from 01:15:{image}\n\nAnd?"
        "<end_of_utterance>\nAssistant:"
    )
    assert (prompt.layout, prompt.geometry, prompt.context_tokens) == ("smolvlm2", "official", 2048)


@pytest.mark.parametrize(
    ("frames", "duration", "words"),
    [
        (1, 0.5, "one frames from a 0:00:00"),
        (64, 3725.9, "sixty-four frames from a 1:02:05"),
        (101, 90061.0, "one hundred and one frames from a 1 day, 1:01:01"),
        (3, 0.0, "three frames from a 0:00:02"),  # unknown duration: the last frame's time
    ],
)
def test_introduction_names_frames_and_duration(
    toy: Checkpoint, frames: int, duration: float, words: str
) -> None:
    messages = asked(planned(*range(frames), duration=duration), "?")
    assert words in to_display_text(render_messages(messages, toy, PromptOptions()))


def test_minutes_go_past_59(toy: Checkpoint) -> None:
    assert "\nFrame from 75:03:<" in pack_prompt(asked(decoded(planned(4503.7)), "?"), toy).text


def test_v1_text(toy_v1: Checkpoint) -> None:
    image = "<fake_token_around_image><global-img><image ×4><fake_token_around_image>"  # noqa: RUF001
    video, picture = decoded(planned(0.0, 1.0)), decoded(planned(0.0, kind="image"))
    start, end = "<|im_start|>User:", "<end_of_utterance>\nAssistant:"
    whole = PromptOptions(split_images=False)
    assert pack_prompt(asked(video, "Why?"), toy_v1).text == (
        f"{start} Answer briefly.{image}{image}Why?{end}"
    )
    assert pack_prompt(asked("First this.", video, "Why?"), toy_v1).text == (
        f"{start} Answer briefly.\nFirst this.{image}{image}Why?{end}"
    )
    assert pack_prompt(asked(picture, "Why?"), toy_v1, whole).text == f"{start}{image}Why?{end}"
    assert pack_prompt(asked("Why?"), toy_v1).text == f"{start} Why?{end}"


def test_nano_text(toy_nano: Checkpoint) -> None:
    video, picture = decoded(planned(0.0, 61.0)), decoded(planned(0.0, kind="image"))
    start, end = "<|im_start|>User:", "<end_of_utterance>\nAssistant:"
    image = "<image ×4>"  # noqa: RUF001
    assert pack_prompt(asked(video, "Why?"), toy_nano).text == (
        f"{start}{image}00:00\n{image}01:01\nWhy?{end}"
    )
    assert pack_prompt(asked(picture, "Why?"), toy_nano).text == f"{start}{image}\nWhy?{end}"
    assert pack_prompt(asked("Why?"), toy_nano).text == f"{start} Why?{end}"
    prompt = pack_prompt(asked("See:", video, "Why?"), toy_nano)
    assert prompt.text == f"{start} See:{image}00:00\n{image}01:01\nWhy?{end}"
    assert prompt.images.shape == (2, 32, 32, 3)


def test_base_model_ends_turns_with_end_of_text(toy: Checkpoint, tmp_path: Path) -> None:
    folder = write_toy_checkpoint(tmp_path / "base", model_type="idefics3")
    template = folder / "chat_template.json"
    template.write_text(template.read_text().replace("<end_of_utterance>", "<|endoftext|>"))
    base = open_checkpoint(str(folder))
    assert (
        pack_prompt(asked("Why?"), base).text == "<|im_start|>User: Why?<|endoftext|>\nAssistant:"
    )
    assert base.eos_token_ids == (0, 6)


def test_conversation_text(toy: Checkpoint) -> None:
    history = [
        Message("user", (decoded(planned(1.0, duration=2.0)), "What is it?")),
        Message("assistant", ("A cat.",)),
        Message("user", ("And", " now?")),
    ]
    prompt = pack_prompt(history, toy)
    assert prompt.text.startswith("<|im_start|>User: You are provided")
    assert prompt.text.endswith(
        "\n\nWhat is it?<end_of_utterance>\nAssistant: A cat.<end_of_utterance>\n"
        "User: And now?<end_of_utterance>\nAssistant:"
    )
    assert prompt.token_ids.count(toy.special_tokens["<|im_start|>"]) == 1
    assert (
        pack_prompt(asked("And now?"), toy).token_ids
        == pack_prompt(asked("And", " now?"), toy).token_ids
    )


def test_interleaved_sources_and_texts(toy: Checkpoint) -> None:
    first, second = planned(0.0, 1.0, duration=2.0), planned(5.0, duration=9.0, size=(90, 160))
    picture = planned(0.0, kind="image", size=(50, 20))
    shades = []
    for shade, plan in enumerate((first, picture, second), start=1):
        batch = decoded(plan)
        batch.images[:] = 40 * shade
        shades.append(batch)
    prompt = pack_prompt(
        asked(
            "One: ", shades[0], "a picture: ", shades[1], "two: ", shades[2], "Which is longest?"
        ),
        toy,
    )
    assert [int(image[16, 16, 0]) for image in prompt.images] == [40, 40, 80, 120]
    assert prompt.token_ids.count(toy.image_token_id) == 4 * 4
    order = [
        "User: One: You are provided",
        "two frames",
        "a picture: <fake",
        "two: You",
        "one frames",
    ]
    places = [prompt.text.index(words) for words in order]
    assert places == sorted(places)


def test_explicit_layout_overrides_that_of_the_checkpoint(
    toy: Checkpoint, toy_nano: Checkpoint
) -> None:
    video = decoded(planned(0.0, duration=1.0))
    prompt = pack_prompt(asked(video, "Why?"), toy, PromptOptions(layout="nano"))
    assert prompt.layout == "nano"
    assert "<fake_token_around_image>" not in prompt.text
    assert (
        "Answer briefly."
        in pack_prompt(asked(video, "?"), toy_nano, PromptOptions(layout="smolvlm")).text
    )


@pytest.mark.parametrize("wrong", [{"layout": "llava"}, {"geometry": "squeezed"}])
def test_unknown_options_are_usage_errors(wrong: dict[str, str]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"unknown {name}"):
        PromptOptions(**wrong)  # type: ignore[arg-type]


def test_layout_with_missing_tokens_is_an_error(tmp_path: Path) -> None:
    folder = write_toy_checkpoint(tmp_path / "nano", layout="nano")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [
        token
        for token in tokenizer["added_tokens"]
        if token["content"] != "<fake_token_around_image>"
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    checkpoint = open_checkpoint(str(folder))
    with pytest.raises(PromptError, match="has no token `<fake_token_around_image>`") as caught:
        pack_prompt(
            asked(decoded(planned(0.0)), "Why?"), checkpoint, PromptOptions(layout="smolvlm2")
        )
    assert "`nano`" in str(caught.value.hint)


# ------------------------------------------------------ image splitting


def squares(prompt: Prompt) -> int:
    return len(prompt.images)


def test_images_are_split_by_layout_and_option(toy: Checkpoint, toy_nano: Checkpoint) -> None:
    picture, video = decoded(planned(0.0, kind="image", size=(64, 128))), decoded(planned(0.0))
    no, yes = PromptOptions(split_images=False), PromptOptions(split_images=True)
    assert squares(pack_prompt(asked(picture, "?"), toy)) == 2 * 4 + 1
    assert squares(pack_prompt(asked(picture, "?"), toy, no)) == 1
    assert squares(pack_prompt(asked(picture, picture, "?"), toy)) == 2
    assert squares(pack_prompt(asked(picture, picture, "?"), toy, yes)) == 18
    assert squares(pack_prompt(asked(picture, video, "?"), toy)) == 2
    assert squares(pack_prompt(asked(picture, video, "?"), toy, yes)) == 10
    assert squares(pack_prompt(asked(picture, "?"), toy, PromptOptions(geometry="direct"))) == 1
    assert squares(pack_prompt(asked(picture, "?"), toy_nano)) == 1
    history = [
        Message("user", (picture, "?")),
        Message("assistant", ("A.",)),
        Message("user", ("B?",)),
    ]
    assert squares(pack_prompt(history, toy)) == 9
    with pytest.raises(PromptError, match="layout `nano` cannot split"):
        pack_prompt(asked(picture, "?"), toy_nano, yes)


def test_rows_and_columns_of_a_split_image(toy: Checkpoint) -> None:
    prompt = pack_prompt(asked(decoded(planned(0.0, kind="image", size=(64, 128))), "?"), toy)
    tile = "<fake_token_around_image><row_{}_col_{}><image ×4>"  # noqa: RUF001
    rows = ["".join(tile.format(row, column) for column in (1, 2, 3, 4)) for row in (1, 2)]
    whole = "<fake_token_around_image><global-img><image ×4><fake_token_around_image>"  # noqa: RUF001
    assert f"User:{rows[0]}\n{rows[1]}\n\n{whole}?" in prompt.text


def test_checkpoint_without_image_splitting(tmp_path: Path) -> None:
    folder = write_toy_checkpoint(tmp_path / "toy")
    settings = {"do_image_splitting": False, "size": {"longest_edge": 128}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    picture = decoded(planned(0.0, kind="image", size=(64, 128)))
    assert squares(pack_prompt(asked(picture, "?"), open_checkpoint(str(folder)))) == 1
