"""Benchmark prompts, character by character, next to the source of each."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import tinymodels
from support.project import ROOT

from smolvideo.engines import load_engine
from smolvideo.errors import UsageError
from smolvideo.evals.datasets.registry import SCHEMAS
from smolvideo.evals.datasets.schemas.schema import RowPlace
from smolvideo.evals.protocol import PROMPTS, format_question
from smolvideo.evals.protocol.prompts import check_prompt
from smolvideo.models.checkpoint import Checkpoint
from smolvideo.pipeline import load_frames
from smolvideo.prompt import Message, PromptOptions, pack_prompt
from smolvideo.sampling import FrameSampling

QUESTION = "Who sits down first?"
FIVE = ("Vincent", "Neil", "Chris", "Justine", "Eady")
FOUR = FIVE[:4]
SUBTITLES = "<subtitle> What's up?\n<subtitle> Nothing."

OFFICIAL = """\
You will be provided with subtitles from a specific scene of a movie and a few frames from that \
scene. After going through the movie scene and seeing the frames, please answer the question that \
follows. The question will have five possible answers labeled A, B, C, D, and E, please try to \
provide the most probable answer in your opinion. Your output should be just one of A,B,C,D,E and \
nothing else.

**Output Format:**
    **Answer:** <Option_key>

**Subtitles:**\x20
<subtitle> What's up?
<subtitle> Nothing.

Question: Who sits down first?
- A) Vincent
- B) Neil
- C) Chris
- D) Justine
- E) Eady


Note: Follow the output format strictly. Only answer with the option key (A, B, C, D, E) and \
nothing else."""

LMMS_CINEPILE = """\
You will be provided with subtitles from a specific scene of a movie and all the video frames from \
that scene. After going through the movie scene and seeing the frames, please answer the question \
that follows. The question will have five possible answers labeled A, B, C, D, and E, please try \
to provide the most probable answer in your opinion. Your output should be just one of A,B,C,D,E \
and nothing else.
**Output Format:**
\t**Answer:** <Option_key>

**Subtitles:**
<subtitle> What's up?
<subtitle> Nothing.

Who sits down first?
- A) Vincent
- B) Neil
- C) Chris
- D) Justine
- E) Eady

Note: Follow the output format strictly. Only answer with the option key (A, B, C, D, E) and \
nothing else."""

SMOLVLM_CINEPILE = """\
Given these subtitles:
<subtitle> What's up?
<subtitle> Nothing.

Who sits down first?
- A) Vincent
- B) Neil
- C) Chris
- D) Justine
- E) Eady
"""

SMOLVLM_VIDEO_MME = """\
Video subtitles:
Hello.

Select the best answer to the following multiple-choice question based on the video. Respond with \
'Answer: X' where X is the letter (A, B, C, or D) of the correct option.
Who sits down first?
(A) Vincent
(B) Neil
(C) Chris
(D) Justine
"""

SMOLVLM_MVBENCH = """\
Question: Who sits down first?
Options:
(A) Vincent
(B) Neil
(C) Chris
(D) Justine
Answer with the option's letter from the given choices directly and only give the best option."""

LMMS_VIDEO_MME = """\
Select the best answer to the following multiple-choice question based on the video and the \
subtitles. Respond with only the letter (A, B, C, or D) of the correct option.
Who sits down first?
A. Vincent
B. Neil
C. Chris
D. Justine

Answer with the option's letter from the given choices directly."""

LMMS_VIDEO_MME_SUBTITLES = """\
This video's subtitles are listed below:\x20
Hello.
Select the best answer to the following multiple-choice question based on the video and the \
subtitles. Respond with only the letter (A, B, C, or D) of the correct option.
Who sits down first?
A. Vincent
B. Neil
C. Chris
D. Justine
The best answer is:"""

LMMS_MVBENCH = """\
Question:Who sits down first?
Option:
(A) Vincent
(B) Neil
(C) Chris
(D) Justine
Only give the best option.
"""

LMMS_EGOSCHEMA = """\
Who sits down first?
A. Vincent
B. Neil
C. Chris
D. Justine
E. Eady
Answer with the option's letter from the given choices directly."""

PLAIN = """\
Subtitles:
Hello.

Who sits down first?
A. Vincent
B. Neil
C. Chris
D. Justine
Answer with the letter of the right option."""


@pytest.mark.parametrize(
    ("prompt", "benchmark", "options", "subtitles", "expected"),
    [
        ("official", "cinepile", FIVE, SUBTITLES, OFFICIAL),
        ("lmms-eval", "cinepile", FIVE, SUBTITLES, LMMS_CINEPILE),
        ("smolvlm", "cinepile", FIVE, SUBTITLES, SMOLVLM_CINEPILE),
        ("smolvlm", "jsonl", FIVE, SUBTITLES, SMOLVLM_CINEPILE),
        ("smolvlm", "video-mme", FOUR, "Hello.", SMOLVLM_VIDEO_MME),
        ("smolvlm", "mvbench", FOUR, None, SMOLVLM_MVBENCH),
        ("smolvlm", "egoschema", FOUR, None, SMOLVLM_MVBENCH),
        ("lmms-eval", "video-mme", FOUR, None, LMMS_VIDEO_MME),
        ("lmms-eval", "video-mme", FOUR, "Hello.", LMMS_VIDEO_MME_SUBTITLES),
        ("lmms-eval", "mvbench", FOUR, None, LMMS_MVBENCH),
        ("lmms-eval", "egoschema", FIVE, None, LMMS_EGOSCHEMA),
        ("plain", "mvbench", FOUR, "Hello.", PLAIN),
        ("open", "egoschema", FIVE, None, QUESTION),
    ],
)
def test_prompt_equals_its_source(prompt, benchmark, options, subtitles, expected) -> None:  # type: ignore[no-untyped-def]
    assert format_question(prompt, benchmark, QUESTION, options, subtitles).text == expected


RECORDED = json.loads((ROOT / "tests" / "golden" / "eval-prompts.json").read_text("utf-8"))


@pytest.mark.parametrize(
    "recorded", RECORDED["prompts"], ids=lambda one: f"{one['prompt']}-{one['benchmark']}"
)
def test_prompt_equals_what_the_tool_itself_builds(recorded: dict[str, Any]) -> None:
    """Recorded by tests/stress/record_prompts.py, which runs the tools' own functions."""
    benchmark = recorded["benchmark"]
    if "row" in recorded:
        item = SCHEMAS[benchmark].item(recorded["row"], RowPlace(0, "action_antonym"))
        asked = (item.question, item.options, item.subtitles)
    else:  # the tool has files of its own
        asked = ("Who sits down first? Choose one.", recorded["options"], None)
    made = format_question(recorded["prompt"], benchmark, *asked)
    assert (made.instruction, made.text) == (recorded["before"], recorded["text"])


def test_every_prompt_of_another_tool_is_recorded() -> None:
    tools = RECORDED["commits"].keys()
    prompts = {(prompt, name) for name, one in SCHEMAS.items() for prompt in one.prompts}
    recorded = {(one["prompt"], one["benchmark"]) for one in RECORDED["prompts"]}
    assert {one for one in prompts if one[0] in tools} == recorded


@pytest.mark.parametrize(("benchmark", "before"), [("video-mme", ""), ("worldsense", "Carefully")])
def test_vlmevalkit_lists_subtitles_before_the_question(benchmark: str, before: str) -> None:
    asked = format_question("vlmevalkit", benchmark, QUESTION, FOUR, "Hello.")
    assert (asked.instruction or "").startswith(before)
    expected = (
        "\nThese are the frames of a video. This video's subtitles are listed below:\nHello.\n"
        "Select the best answer to the following"
    )
    assert asked.text.startswith(expected)


def test_prompts_for_other_benchmarks_are_errors() -> None:
    for prompt, benchmark in (("official", "mvbench"), ("lmms-eval", "jsonl")):
        with pytest.raises(UsageError, match="is made for") as raised:
            format_question(prompt, benchmark, QUESTION, FIVE, None)  # type: ignore[arg-type]
        assert "`smolvlm`" in str(raised.value.hint)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    folder = tinymodels.make_tiny(tmp_path / "tiny", "idefics3")
    return load_engine(str(folder), device="cpu").checkpoint


@pytest.mark.parametrize("prompt", [one for one in PROMPTS if one != "vlmevalkit"])
def test_instruction_precedes_the_frames(prompt: str, checkpoint: Checkpoint) -> None:
    asked = format_question(prompt, "cinepile", QUESTION, FIVE, SUBTITLES)  # type: ignore[arg-type]
    batch = load_frames(ROOT / "samples" / "circle_right.mp4", FrameSampling(max_frames=2))
    message = Message("user", (batch, asked.text), preamble=asked.instruction)
    text = pack_prompt([message], checkpoint, PromptOptions(layout="smolvlm")).text
    before = {
        "official": "User:<fake",
        "lmms-eval": "User:<fake",
        "smolvlm": "User: Answer briefly with just the letter of your choice.<fake",
        "plain": "User: Answer briefly.<fake",
        "open": "User: Answer briefly.<fake",
    }[prompt]
    assert text.startswith("<|im_start|>" + before)
    assert text.endswith(f"image>{asked.text}<end_of_utterance>\nAssistant:") or (
        f"{asked.text}<end_of_utterance>\nAssistant:" in text
    )


def test_hint_names_the_compatible_prompts() -> None:
    for prompt, benchmark, fitting in (
        ("official", "mvbench", "one of `smolvlm`, `lmms-eval`, `vlmevalkit`, `plain`, `open`"),
        ("lmms-eval", "jsonl", "one of `smolvlm`, `plain`, `open`"),
    ):
        with pytest.raises(UsageError, match=f"not for `{benchmark}`") as raised:
            check_prompt(prompt, benchmark)  # type: ignore[arg-type]
        assert raised.value.hint == fitting
