"""Golden prompts, stored as readable files.

``SMOLVIDEO_UPDATE_GOLDEN=1 pytest tests/prompt/test_golden.py`` rewrites them.
"""

import hashlib
import os
import textwrap
from pathlib import Path

import pytest
from support.project import ROOT
from support.prompt_parts import (
    V1_2B,
    V1_256M,
    V1_BASE,
    V2_2B,
    V2_256M,
    V2_500M,
    asked,
    decoded,
    planned,
)

from smolvideo.models import open_checkpoint
from smolvideo.prompt import Message, Prompt, PromptOptions, pack_prompt

GOLDEN = ROOT / "tests" / "golden"
UPDATE_GOLDEN = os.environ.get("SMOLVIDEO_UPDATE_GOLDEN") == "1"


def golden_text(prompt: Prompt) -> str:
    """Return the stored form of a prompt: size, hash of the ids, ids with runs shortened,
    and text.
    """
    digest = hashlib.sha256(" ".join(map(str, prompt.token_ids)).encode()).hexdigest()
    shortened: list[str] = []
    for token_id in prompt.token_ids:
        if not shortened or shortened[-1] != str(token_id):
            shortened.append(str(token_id))
    ids = textwrap.fill(" ".join(shortened), 100)
    sizes = f"{len(prompt)} tokens, {len(prompt.images)} squares"
    return f"{sizes}\nsha256 {digest}\n\n{ids}\n\n{prompt.text}\n"


def golden_prompts() -> dict[str, tuple[str, list[Message], PromptOptions]]:
    video = decoded(planned(0.0, 1.5, 61.2, duration=62.5, size=(36, 64)))
    picture = decoded(planned(0.0, kind="image", size=(30, 40)))
    question = "What happens, and when? <image>"
    conversation = [
        *asked(video, "What is it?"),
        Message("assistant", ("A cat.",)),
        *asked("What colour is it?"),
    ]
    return {
        "smolvlm-video": (V1_2B, asked(video, question), PromptOptions()),
        "smolvlm-256m-video": (V1_256M, asked(video, question), PromptOptions()),
        "smolvlm-base-video": (V1_BASE, asked(video, question), PromptOptions()),
        "smolvlm-picture": (V1_2B, asked(picture, question), PromptOptions()),
        "smolvlm2-video": (V2_256M, asked(video, question), PromptOptions()),
        "smolvlm2-2.2b-video": (V2_2B, asked(video, question), PromptOptions()),
        "smolvlm2-picture": (V2_256M, asked(picture, question), PromptOptions()),
        "smolvlm2-two-pictures": (V2_256M, asked(picture, picture, question), PromptOptions()),
        "smolvlm2-conversation": (V2_500M, conversation, PromptOptions()),
        "smolvlm2-interleaved": (
            V2_500M, asked("First: ", video, "Then: ", picture, question), PromptOptions(),
        ),
        "nano-layout": (V2_256M, asked(video, question), PromptOptions(layout="nano")),
    }  # fmt: skip


@pytest.mark.checkpoints
@pytest.mark.parametrize("name", golden_prompts())
def test_golden_prompts(processor_files: Path, name: str) -> None:
    folder, messages, options = golden_prompts()[name]
    checkpoint = open_checkpoint(str(processor_files / folder), weights=False)
    made = golden_text(pack_prompt(messages, checkpoint, options))
    file = GOLDEN / f"{name}.txt"
    if UPDATE_GOLDEN:
        file.write_text(made, encoding="utf-8")
    assert made == file.read_text(encoding="utf-8")


def test_every_golden_file_is_compared() -> None:
    assert {file.stem for file in GOLDEN.glob("*.txt")} == set(golden_prompts())
