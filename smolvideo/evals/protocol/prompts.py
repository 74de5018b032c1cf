"""Named prompts, as benchmarks and model authors publish them. Golden tests pin every character.

``official``   CinePile's own: the notebook published with the dataset
               (huggingface.co/datasets/tomg-group-umd/cinepile); without any other instruction.
``smolvlm``    the prompts of SmolVLM's authors. The script behind their 27.14 % on CinePile is not
               published; the closest is: mfarre/smol-vision@e858d403, SmolVLM_FT_video_cinepile.py,
               for CinePile and our own files; eval/inference_video_mcqa_videomme.py for Video-MME,
               and its siblings for MVBench and EgoSchema.
``lmms-eval``  EvolvingLMMs-Lab/lmms-eval@75571cfe, tasks cinepile, videomme, mvbench, egoschema;
               the others are in the schemas of their benchmarks, with their own sources.
``plain``      ours: the question, the options with letters, one sentence.
``open``       ours: the question alone, no options; for ``--scoring options``.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

from smolvideo.errors import UsageError
from smolvideo.evals.datasets.registry import SCHEMAS
from smolvideo.evals.item import LETTERS

PromptName = Literal["official", "smolvlm", "lmms-eval", "plain", "open"]
PROMPTS: tuple[PromptName, ...] = get_args(PromptName)


class QuestionText(NamedTuple):
    """Text of a question: ``instruction`` goes before the frames, ``text`` after them.

    An ``instruction`` of None uses the default of the model's layout; an empty one is no text.
    """

    instruction: str | None
    text: str


def format_question(
    prompt: PromptName, benchmark: str, question: str, options: Sequence[str], subtitles: str | None
) -> QuestionText:
    """Format one question with ``prompt``. ``options`` are in display order.

    Raises UsageError if the prompt does not support the benchmark.
    """
    check_prompt(prompt, benchmark)
    makers = _MAKERS[prompt]
    return makers.get(benchmark, makers.get("", _open))(question, options, subtitles)


def default_prompt(benchmark: str) -> PromptName:
    """Return the prompt of a run that names none: ``smolvlm`` where its authors published one."""
    return "smolvlm" if benchmark in _MAKERS["smolvlm"] else "lmms-eval"


def check_prompt(prompt: PromptName, benchmark: str) -> None:
    """Raise UsageError if ``prompt`` does not support ``benchmark``."""
    makers = _MAKERS[prompt]
    if benchmark not in makers and "" not in makers:
        fitting = [f"`{name}`" for name in PROMPTS if {"", benchmark} & _MAKERS[name].keys()]
        made = ", ".join(f"`{name}`" for name in makers)
        raise UsageError(
            f"the prompt `{prompt}` is made for {made}, not for `{benchmark}`",
            hint="one of " + ", ".join(fitting),
        )


_CINEPILE_HEAD = (
    "You will be provided with subtitles from a specific scene of a movie and {frames} from that "
    "scene. After going through the movie scene and seeing the frames, please answer the question "
    "that follows. The question will have five possible answers labeled A, B, C, D, and E, please "
    "try to provide the most probable answer in your opinion. Your output should be just one of "
    "A,B,C,D,E and nothing else."
)
_CINEPILE_TAIL = (
    "Note: Follow the output format strictly. Only answer with the option key (A, B, C, D, E) and "
    "nothing else."
)
_SMOLVLM_SELECT = (
    "Select the best answer to the following multiple-choice question based on the video. Respond "
    "with 'Answer: X' where X is the letter (A, B, C, or D) of the correct option.\n"
)
_SMOLVLM_LETTER = (
    "Answer with the option's letter from the given choices directly and only give the best option."
)
_LMMS_LETTER = "Answer with the option's letter from the given choices directly."
_LMMS_SELECT = (
    "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\n"
)


def _dashed(options: Sequence[str]) -> str:
    return "".join(f"- {letter}) {option}\n" for letter, option in _lettered(options))


def _bracketed(options: Sequence[str]) -> str:
    return "".join(f"({letter}) {option}\n" for letter, option in _lettered(options))


def _dotted(options: Sequence[str]) -> str:
    return "\n".join(f"{letter}. {option}" for letter, option in _lettered(options))


def _lettered(options: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(LETTERS[: len(options)], options, strict=True))


def _official(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    head = _CINEPILE_HEAD.format(frames="a few frames")
    shape = "**Output Format:**\n    **Answer:** <Option_key>"
    text = (
        f"{head}\n\n{shape}\n\n**Subtitles:** \n{subtitles or ''}\n\n"
        f"Question: {question}\n{_dashed(options)}\n\n{_CINEPILE_TAIL}"
    )
    return QuestionText("", text)


def _lmms_cinepile(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    head = _CINEPILE_HEAD.format(frames="all the video frames")
    shape = "**Output Format:**\n\t**Answer:** <Option_key>"
    text = (
        f"{head}\n{shape}\n\n**Subtitles:**\n{subtitles or ''}\n\n"
        f"{question}\n{_dashed(options)}\n{_CINEPILE_TAIL}"
    )
    return QuestionText("", text)


def _smolvlm(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    given = f"Given these subtitles:\n{subtitles}\n\n" if subtitles else ""
    return QuestionText(
        "Answer briefly with just the letter of your choice.",
        f"{given}{question}\n{_dashed(options)}",
    )


def _smolvlm_video_mme(
    question: str, options: Sequence[str], subtitles: str | None
) -> QuestionText:
    given = f"Video subtitles:\n{subtitles}\n\n" if subtitles else ""
    return QuestionText(
        "Answer briefly.", f"{given}{_SMOLVLM_SELECT}{question}\n{_bracketed(options)}"
    )


def _smolvlm_letter(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    text = f"Question: {question}\nOptions:\n{_bracketed(options)}{_SMOLVLM_LETTER}"
    return QuestionText("Answer briefly.", text)


def _lmms_video_mme(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    # The task without subtitles still mentions them, but ends differently.
    given = f"This video's subtitles are listed below: \n{subtitles}\n" if subtitles else ""
    ending = "The best answer is:" if subtitles else f"\n{_LMMS_LETTER}"
    return QuestionText("", f"{given}{_LMMS_SELECT}{question}\n{_dotted(options)}\n{ending}")


def _lmms_mvbench(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    return QuestionText(
        "", f"Question:{question}\nOption:\n{_bracketed(options)}Only give the best option.\n"
    )


def _lmms_egoschema(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    return QuestionText("", f"{question}\n{_dotted(options)}\n{_LMMS_LETTER}")


def _plain(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    given = f"Subtitles:\n{subtitles}\n\n" if subtitles else ""
    ask = "Answer with the letter of the right option."
    return QuestionText(None, f"{given}{question}\n{_dotted(options)}\n{ask}")


def _open(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    return QuestionText(None, question)


def _lmms_of_schema(benchmark: str) -> Callable[[str, Sequence[str], str | None], QuestionText]:
    schema = SCHEMAS[benchmark]
    return lambda question, options, subtitles: QuestionText(
        "", schema.lmms_eval_text(question, options, subtitles)
    )


_MAKERS: dict[PromptName, dict[str, Callable[[str, Sequence[str], str | None], QuestionText]]] = {
    "official": {"cinepile": _official},
    "smolvlm": {
        "cinepile": _smolvlm,
        "jsonl": _smolvlm,
        "video-mme": _smolvlm_video_mme,
        "mvbench": _smolvlm_letter,
        "egoschema": _smolvlm_letter,
    },
    "lmms-eval": {
        "cinepile": _lmms_cinepile,
        "video-mme": _lmms_video_mme,
        "mvbench": _lmms_mvbench,
        "egoschema": _lmms_egoschema,
        **{name: _lmms_of_schema(name) for name in SCHEMAS},
    },
    "plain": {"": _plain},
    "open": {"": _open},
}
"""Prompt → benchmark → formatter; the empty name stands for every benchmark."""
