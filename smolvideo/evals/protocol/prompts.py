"""Named prompts, as benchmarks and model authors publish them. Golden tests pin every character.

``official``   CinePile's own.
``smolvlm``    the prompts of SmolVLM's authors, for the benchmarks for which they published some.
``lmms-eval``  that of the benchmark's task in lmms-eval.
``vlmevalkit`` the messages of the benchmark in VLMEvalKit, in their order, texts joined by a line
               break; its adapters for single models change them further.
``plain``      ours: the question, the options with letters, one sentence.
``open``       ours: the question alone, no options; for ``--scoring options``.

The first four are in the files of the benchmarks, with their sources.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from smolvideo.errors import UsageError
from smolvideo.evals.datasets.registry import SCHEMAS
from smolvideo.evals.datasets.schemas.schema import FormatQuestion, QuestionText, dotted

PromptName = Literal["official", "smolvlm", "lmms-eval", "vlmevalkit", "plain", "open"]
PROMPTS: tuple[PromptName, ...] = get_args(PromptName)


def format_question(
    prompt: PromptName, benchmark: str, question: str, options: Sequence[str], subtitles: str | None
) -> QuestionText:
    """Format one question with ``prompt``. ``options`` are in display order.

    Raises UsageError if the prompt does not support the benchmark.
    """
    check_prompt(prompt, benchmark)
    asked = _prompts_of(benchmark)[prompt](question, options, subtitles)
    return asked if isinstance(asked, QuestionText) else QuestionText("", asked)


def default_prompt(benchmark: str) -> PromptName:
    """Return the prompt of a run that names none: ``smolvlm`` where its authors published one."""
    return "smolvlm" if "smolvlm" in SCHEMAS[benchmark].prompts else "lmms-eval"


def _prompts_of(benchmark: str) -> Mapping[str, FormatQuestion]:
    return {**SCHEMAS[benchmark].prompts, **_OF_ANY}


def check_prompt(prompt: PromptName, benchmark: str) -> None:
    """Raise UsageError if ``prompt`` does not support ``benchmark``."""
    if prompt not in _prompts_of(benchmark):
        fitting = [f"`{name}`" for name in PROMPTS if name in _prompts_of(benchmark)]
        made = ", ".join(f"`{name}`" for name in SCHEMAS if prompt in _prompts_of(name))
        raise UsageError(
            f"the prompt `{prompt}` is made for {made}, not for `{benchmark}`",
            hint="one of " + ", ".join(fitting),
        )


def _plain(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    given = f"Subtitles:\n{subtitles}\n\n" if subtitles else ""
    ask = "Answer with the letter of the right option."
    return QuestionText(None, f"{given}{question}\n{dotted(options)}\n{ask}")


def _open(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    return QuestionText(None, question)


_OF_ANY: Mapping[str, FormatQuestion] = {"plain": _plain, "open": _open}
"""Prompts that are made for every benchmark."""
