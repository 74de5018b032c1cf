"""One video, from its frames to its summary.

Written as generators that yield what is to be asked and are sent the answers: how prompts are
answered, one after the other or those of several videos together, is the engine room's affair
(``asking``).
"""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from smolvideo.answer import Answer
from smolvideo.engines import GenerationOptions
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt, notices_for_model, notices_of_frames
from smolvideo.prompt import Message, Prompt, count_tokens, pack_prompt
from smolvideo.summaries.chapters import ChapterSpan, merge_notes
from smolvideo.summaries.options import SummaryOptions
from smolvideo.summaries.prompts import SummaryPrompts
from smolvideo.summaries.record import Chapter, Note
from smolvideo.summaries.windows import Window

QuestionOf = Callable[[list[tuple[float, str]]], str]
Result = TypeVar("Result")

MAX_TITLE_LENGTH = 72
_TITLE_TOKENS = 24
_PARTS_IN_BRIEF = 3


@dataclass(frozen=True)
class PromptBatch:
    """Questions on the same frames, or on none: their images are computed once."""

    prompts: tuple[Prompt, ...]
    generation: GenerationOptions


PromptSteps = Generator[PromptBatch, Sequence[Answer], Result]
"""Yields questions, is sent their answers, returns what it made of them."""


@dataclass
class Summary:
    """The summary of one video, and what it cost."""

    text: str = ""
    chapters: tuple[Chapter, ...] = ()
    notes: tuple[Note, ...] = ()
    frames: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: {"prompt": 0, "answer": 0})
    seconds: dict[str, float] = field(default_factory=dict)
    notices: dict[str, None] = field(default_factory=dict)
    _answers: int = 0
    _answer_notices: Counter[str] = field(default_factory=Counter)

    def note(self, notices: Iterable[str]) -> None:
        """Add notices on the video and its frames, each once."""
        self.notices |= dict.fromkeys(notices)

    def all_notices(self) -> tuple[str, ...]:
        """Those on the video, and those on answers with how many answers they are on."""
        on_answers = (
            notice if self._answers == 1 else f"{count} of {self._answers} answers: {notice}"
            for notice, count in self._answer_notices.items()
        )
        return (*self.notices, *on_answers)

    def count(self, answers: Sequence[Answer], *, may_be_cut: bool = False) -> None:
        """Add what answers have cost, and notices on them; a title ``may_be_cut``."""
        self._answers += len(answers)
        for answer in answers:
            if not (may_be_cut and answer.stop_reason == "length"):
                self._answer_notices.update(answer.notices)
            self.tokens["prompt"] += answer.usage.prompt_tokens
            self.tokens["answer"] += answer.usage.answer_tokens
            for stage, seconds in answer.usage.seconds.items():
                self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


@dataclass(frozen=True)
class Summariser:
    """Summarises videos for one checkpoint with one set of options."""

    checkpoint: Checkpoint
    options: SummaryOptions

    @property
    def wording(self) -> SummaryPrompts:
        """What is asked."""
        return SummaryPrompts.of(self.options, self.checkpoint)

    def summarise_whole(self, prepared: PreparedPrompt) -> PromptSteps[Summary]:
        """A video that is seen at once; ``prepared`` asks the first question of ``whole``."""
        composed = Summary(frames=sum(map(len, prepared.batches)))
        composed.seconds.update(prepared.seconds)
        composed.note(prepared.notices)
        *before, last = prepared.messages
        others = (
            self._pack((*before, replace(last, content=(*last.content[:-1], question))))
            for question in self.wording.video_questions()[1:]
        )
        answers = yield PromptBatch((prepared.prompt, *others), prepared.generation)
        composed.count(answers)
        composed.text = self.wording.answer(tuple(answer.text for answer in answers))
        duration = max(batch.metadata.duration_seconds for batch in prepared.batches)
        composed.chapters = (Chapter(0.0, duration, title_from(composed.text), composed.text),)
        return composed

    def map_reduce(self, windows: Iterator[Window]) -> PromptSteps[Summary]:
        """A long video: a note for each window, joined to chapters, merged to one summary."""
        composed = Summary()
        notes = []
        for window in windows:
            prompts = (
                self._pack((Message("user", (window.batch, question)),))
                for question in self.wording.window()
            )
            answers = yield PromptBatch(tuple(prompts), self.options.generation)
            composed.count(answers)
            composed.note(notices_for_model(self.checkpoint, [window.batch]))
            composed.note(notices_of_frames([window.batch]))
            composed.frames += len(window.batch)
            text = self.wording.answer(tuple(answer.text for answer in answers))
            notes.append(
                Note(
                    window.start_seconds,
                    window.end_seconds,
                    text,
                    window.at_shot_change,
                    window.frame_times,
                )
            )
        composed.notes = tuple(notes)
        stretches = merge_notes(notes)
        if self.checkpoint.is_nano:
            self._merge_as_text(composed, stretches)
        else:
            yield from self._merge_by_model(composed, stretches)
        return composed

    def _merge_as_text(self, composed: Summary, stretches: list[ChapterSpan]) -> None:
        """Without the model: what was noted, in order, each thing once."""
        chapters = []
        for stretch in stretches:
            text = " ".join(text for _, text in stretch.texts())
            chapters.append(
                Chapter(stretch.start_seconds, stretch.end_seconds, title_from(text), text)
            )
        composed.chapters = tuple(chapters)
        composed.text = self._told_in_order([chapter.text for chapter in chapters])

    def _told_in_order(self, texts: list[str]) -> str:
        if self.options.style == "bullets":
            return "\n".join(text if text.startswith("- ") else f"- {text}" for text in texts)
        told = list(dict.fromkeys(texts))
        if self.options.style == "detailed" or len(told) <= _PARTS_IN_BRIEF:
            return "\n".join(told)
        return "\n".join(
            (
                *told[: _PARTS_IN_BRIEF - 1],
                f"({len(texts) - _PARTS_IN_BRIEF} more parts)",
                told[-1],
            )
        )

    def _merge_by_model(self, composed: Summary, stretches: list[ChapterSpan]) -> PromptSteps[None]:
        """The model reads its own notes: a text and a title for each chapter, then the whole."""
        chapters = []
        for stretch in stretches:
            texts = stretch.texts()
            text = texts[0][1]
            if len(texts) > 1:
                text = yield from self._from_notes(composed, texts, self.wording.chapter)
            title = yield from self._text(composed, self.wording.title(text), _TITLE_TOKENS)
            chapters.append(
                Chapter(
                    stretch.start_seconds,
                    stretch.end_seconds,
                    title_from(title) or title_from(text),
                    text,
                )
            )
        composed.chapters = tuple(chapters)
        told = [(chapter.start_seconds, chapter.text) for chapter in chapters]
        composed.text = yield from self._from_notes(composed, told, self.wording.merge_question)

    def _from_notes(
        self,
        composed: Summary,
        notes: list[tuple[float, str]],
        question_of: QuestionOf,
    ) -> PromptSteps[str]:
        """One text out of notes; more than fit the context are merged in groups first."""
        while len(notes) > 1 and not self._fits(question_of(notes)):
            half = len(notes) // 2
            merged = []
            for group in (notes[:half], notes[half:]):
                text = yield from self._from_notes(composed, group, self.wording.chapter)
                merged.append((group[0][0], text))
            notes = merged
        if len(notes) == 1 and not self._fits(question_of(notes)):
            return notes[0][1]
        text = yield from self._text(composed, question_of(notes))
        return text

    def _text(
        self, composed: Summary, question: str, max_new_tokens: int | None = None
    ) -> PromptSteps[str]:
        generation = self.options.generation
        if max_new_tokens is not None:
            fewer = min(max_new_tokens, generation.max_new_tokens)
            generation = replace(generation, max_new_tokens=fewer)
        answers = yield PromptBatch((self._pack((Message("user", (question,)),)),), generation)
        composed.count(answers, may_be_cut=max_new_tokens is not None)
        return answers[0].text

    def _fits(self, question: str) -> bool:
        messages = (Message("user", (question,)),)
        tokens = count_tokens(messages, self.checkpoint, self.options.prompt_options)
        return tokens + self.options.generation.max_new_tokens <= self.checkpoint.context_tokens

    def _pack(self, messages: Sequence[Message]) -> Prompt:
        return pack_prompt(messages, self.checkpoint, self.options.prompt_options)


def title_from(text: str) -> str:
    """One short line: the first sentence without its full stop, cut between words."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = line.strip(" \t-*#\"'“”")
    sentence = re.split(r"(?<=[.!?])\s", line, maxsplit=1)[0].rstrip(" .\"'”")
    sentence = " ".join(sentence.split())
    if len(sentence) <= MAX_TITLE_LENGTH:
        return sentence
    return sentence[: MAX_TITLE_LENGTH - 1].rsplit(" ", 1)[0].rstrip(" ,;") + "…"
