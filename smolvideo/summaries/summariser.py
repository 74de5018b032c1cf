"""Map-reduce summary of one video: a note per window, notes merged to chapters and one text.

A chapter begins at a shot change whose note has new content. The published models never write two
equal notes, so similarity counts shared words. Where too many chapters remain, the most similar
neighbours are merged until ``max_chapters`` is reached.

The steps are generators that yield batches of prompts and are sent the answers, so they do not
depend on how prompts are answered (``inference``).
"""

import math
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
from smolvideo.summaries.options import SummaryOptions, SummaryPrompts
from smolvideo.summaries.record_log import Chapter, Note
from smolvideo.summaries.windows import Window

MERGE_SIMILARITY = 0.5
"""Jaccard similarity from which two notes have the same content if no shot change separates
them."""
MIN_CHAPTER_LIMIT = 6
_LETTERS = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    (
        *("a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "in"),
        *("is", "it", "its", "of", "on", "or", "that", "the", "there", "these", "this", "to"),
        *("was", "were", "which", "while", "with"),
    )
)


@dataclass(frozen=True)
class ChapterSpan:
    """Neighbouring notes that make one chapter."""

    notes: tuple[Note, ...]

    @property
    def start_seconds(self) -> float:
        return self.notes[0].start_seconds

    @property
    def end_seconds(self) -> float:
        return self.notes[-1].end_seconds

    def texts(self) -> list[tuple[float, str]]:
        """Return ``(start_seconds, text)`` of each distinct statement, in order.

        Neighbouring notes with the same content are represented by the most frequent text.
        """
        groups: list[list[Note]] = []
        for note in self.notes:
            if groups and _is_near_duplicate(groups[-1][-1], note):
                groups[-1].append(note)
            else:
                groups.append([note])
        statements: dict[str, tuple[float, str]] = {}
        for group in groups:
            text = _most_frequent([note.text for note in group])
            statements.setdefault(_bare(text), (group[0].start_seconds, text))
        return list(statements.values())


def max_chapters(windows: int) -> int:
    """Return the chapter limit: half of ``windows``, at least ``MIN_CHAPTER_LIMIT``."""
    return max(MIN_CHAPTER_LIMIT, math.ceil(windows / 2))


def merge_notes(notes: Sequence[Note]) -> list[ChapterSpan]:
    """Group all notes of a video into chapters, in order."""
    chapters: list[ChapterSpan] = []
    for note in notes:
        if chapters and _is_near_duplicate(chapters[-1].notes[-1], note):
            chapters[-1] = ChapterSpan((*chapters[-1].notes, note))
        else:
            chapters.append(ChapterSpan((note,)))
    while len(chapters) > max_chapters(len(notes)):
        places = range(len(chapters) - 1)
        place = max(places, key=lambda at: _merge_priority(chapters[at], chapters[at + 1]))
        joined = ChapterSpan((*chapters[place].notes, *chapters[place + 1].notes))
        chapters[place : place + 2] = [joined]
    return chapters


def word_jaccard(one: str, other: str) -> float:
    """Jaccard index of the two sets of words, 0 to 1, without stop words."""
    words, others = _words(one), _words(other)
    if not words and not others:
        return 1.0
    return len(words & others) / len(words | others)


def _is_near_duplicate(before: Note, note: Note) -> bool:
    if _bare(before.text) == _bare(note.text):
        return True
    alike = word_jaccard(before.text, note.text)
    return not note.at_shot_change and alike >= MERGE_SIMILARITY


def _merge_priority(one: ChapterSpan, other: ChapterSpan) -> tuple[bool, float, float]:
    """Sort key of a merge: no shot change between the two, then similarity, then shortness."""
    texts = [" ".join(text for _, text in span.texts()) for span in (one, other)]
    return (
        not other.notes[0].at_shot_change,
        word_jaccard(*texts),
        -(other.end_seconds - one.start_seconds),
    )


def _most_frequent(texts: Sequence[str]) -> str:
    """Return the most frequent text; the longest one on a tie."""
    counts = Counter(map(_bare, texts))
    return max(texts, key=lambda text: (counts[_bare(text)], len(text)))


def _bare(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!")


def _words(text: str) -> frozenset[str]:
    return frozenset(_LETTERS.findall(text.casefold())) - _STOP_WORDS


QuestionOf = Callable[[list[tuple[float, str]]], str]
Result = TypeVar("Result")

MAX_TITLE_LENGTH = 72
_TITLE_TOKENS = 24
_TOKENS_BETWEEN_NOTES = 8
"""Kept free for each note: its tokens are not always those of the text alone."""
_PARTS_IN_BRIEF = 3


@dataclass(frozen=True)
class PromptBatch:
    """Prompts on the same frames, or on none: the frames are encoded once."""

    prompts: tuple[Prompt, ...]
    generation: GenerationOptions


PromptSteps = Generator[PromptBatch, Sequence[Answer], Result]
"""Generator that yields prompts, is sent their answers, and returns its result."""


@dataclass
class Summary:
    """The summary of one video, with its token counts and times."""

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
        """Return the notices on the video, and those on answers with their counts."""
        on_answers = (
            notice if self._answers == 1 else f"{count} of {self._answers} answers: {notice}"
            for notice, count in self._answer_notices.items()
        )
        return (*self.notices, *on_answers)

    def count(self, answers: Sequence[Answer], *, may_be_cut: bool = False) -> None:
        """Add the usage and the notices of answers; with ``may_be_cut`` (titles), notices on an
        answer that reached its length limit are dropped.
        """
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
        """Prompt templates of this checkpoint and these options."""
        return SummaryPrompts.of(self.options, self.checkpoint)

    def summarise_whole(self, prepared: PreparedPrompt) -> PromptSteps[Summary]:
        """Summarise a video as one prompt; ``prepared`` holds the first of ``video_questions``."""
        composed = Summary(frames=sum(map(len, prepared.batches)))
        composed.seconds.update(prepared.seconds)
        composed.note(prepared.notices)
        *before, last = prepared.messages
        others = (
            self._pack((*before, replace(last, content=(*last.content[:-1], question))))
            for question in self.wording.video_questions()[1:]
            if self.options.generation.schema is None  # one answer has it all
        )
        answers = yield PromptBatch((prepared.prompt, *others), prepared.generation)
        composed.count(answers)
        composed.text = self.wording.answer(tuple(answer.text for answer in answers))
        duration = max(batch.metadata.duration_seconds for batch in prepared.batches)
        composed.chapters = (Chapter(0.0, duration, title_from(composed.text), composed.text),)
        return composed

    def map_reduce(self, windows: Iterator[Window]) -> PromptSteps[Summary]:
        """Summarise a long video: a note for each window, merged to chapters and one text."""
        composed = Summary()
        # Map: a note for each window, as free text.
        as_text = replace(self.options.generation, schema=None)
        notes = []
        for window in windows:
            prompts = (
                self._pack((Message("user", (window.batch, question)),))
                for question in self.wording.window()
            )
            answers = yield PromptBatch(tuple(prompts), as_text)
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
        # Reduce: notes to chapters, chapters to one text.
        composed.notes = tuple(notes)
        spans = merge_notes(notes)
        if self.checkpoint.is_nano:
            self._merge_as_text(composed, spans)
            if self.options.generation.schema is not None:
                timed = [(one.start_seconds, one.text) for one in composed.chapters]
                composed.text = yield from self._document(composed, timed)
        else:
            yield from self._merge_by_model(composed, spans)
        return composed

    def _merge_as_text(self, composed: Summary, spans: list[ChapterSpan]) -> None:
        """Concatenate the notes in order without duplicates; the model is not used."""
        chapters = []
        for span in spans:
            text = " ".join(text for _, text in span.texts())
            chapters.append(Chapter(span.start_seconds, span.end_seconds, title_from(text), text))
        composed.chapters = tuple(chapters)
        composed.text = self._join_in_order([chapter.text for chapter in chapters])

    def _join_in_order(self, texts: list[str]) -> str:
        if self.options.style == "bullets":
            return "\n".join(text if text.startswith("- ") else f"- {text}" for text in texts)
        distinct = list(dict.fromkeys(texts))
        if self.options.style == "detailed" or len(distinct) <= _PARTS_IN_BRIEF:
            return "\n".join(distinct)
        return "\n".join(
            (
                *distinct[: _PARTS_IN_BRIEF - 1],
                f"({len(texts) - _PARTS_IN_BRIEF} more parts)",
                distinct[-1],
            )
        )

    def _merge_by_model(self, composed: Summary, spans: list[ChapterSpan]) -> PromptSteps[None]:
        """Let the model merge its notes: a text and a title for each chapter, then the summary."""
        chapters = []
        for span in spans:
            texts = span.texts()
            text = texts[0][1]
            if len(texts) > 1:
                text = yield from self._from_notes(composed, texts, self.wording.chapter)
            title = yield from self._text(composed, self.wording.title(text), _TITLE_TOKENS)
            chapters.append(
                Chapter(
                    span.start_seconds,
                    span.end_seconds,
                    title_from(title) or title_from(text),
                    text,
                )
            )
        composed.chapters = tuple(chapters)
        timed = [(chapter.start_seconds, chapter.text) for chapter in chapters]
        if self.options.generation.schema is not None:
            composed.text = yield from self._document(composed, timed)
        else:
            composed.text = yield from self._from_notes(
                composed, timed, self.wording.merge_question
            )

    def _document(self, composed: Summary, notes: list[tuple[float, str]]) -> PromptSteps[str]:
        """Merge notes into one JSON document by the schema of the options.

        Notes that do not fit the context are merged to shorter ones first.
        """
        while len(notes) > 1 and not self._fits(self.wording.merge_question(notes), None):
            half = len(notes) // 2
            merged = []
            for group in (notes[:half], notes[half:]):
                text = yield from self._from_notes(composed, group, self.wording.chapter)
                merged.append((group[0][0], text))
            if merged == notes:
                break
            notes = merged
        question = self.wording.merge_question(notes)
        answers = yield PromptBatch(
            (self._pack((Message("user", (question,)),)),), self.options.generation
        )
        composed.count(answers)
        return answers[0].text

    def _from_notes(
        self,
        composed: Summary,
        notes: list[tuple[float, str]],
        question_of: QuestionOf,
        max_new_tokens: int | None = None,
    ) -> PromptSteps[str]:
        """Merge notes into one text; if they do not fit the context, merge each half first, into
        at most as many tokens as fit together."""
        if len(notes) > 1 and not self._fits(question_of(notes), max_new_tokens):
            half = len(notes) // 2
            groups = notes[:half], notes[half:]
            blank = question_of([(group[0][0], "") for group in groups])
            share = self._free_tokens(blank, max_new_tokens) // 2 - _TOKENS_BETWEEN_NOTES
            limit = None if share >= self._limit(max_new_tokens) else max(1, share)
            notes = []
            for group in groups:
                text = yield from self._from_notes(
                    composed, group, self.wording.chapter, limit or max_new_tokens
                )
                notes.append((group[0][0], text))
        if len(notes) == 1 and not self._fits(question_of(notes), max_new_tokens):
            return notes[0][1]
        text = yield from self._text(composed, question_of(notes), max_new_tokens)
        return text

    def _text(
        self, composed: Summary, question: str, max_new_tokens: int | None = None
    ) -> PromptSteps[str]:
        generation = replace(self.options.generation, schema=None)
        if max_new_tokens is not None:
            generation = replace(generation, max_new_tokens=self._limit(max_new_tokens))
        answers = yield PromptBatch((self._pack((Message("user", (question,)),)),), generation)
        composed.count(answers, may_be_cut=max_new_tokens is not None)
        return answers[0].text

    def _fits(self, question: str, max_new_tokens: int | None) -> bool:
        return self._free_tokens(question, max_new_tokens) >= 0

    def _free_tokens(self, question: str, max_new_tokens: int | None) -> int:
        """Return how many tokens of the context a question and its answer leave; below 0, they do
        not fit."""
        messages = (Message("user", (question,)),)
        tokens = count_tokens(messages, self.checkpoint, self.options.prompt_options)
        return self.checkpoint.context_tokens - tokens - self._limit(max_new_tokens)

    def _limit(self, max_new_tokens: int | None) -> int:
        most = self.options.generation.max_new_tokens
        return most if max_new_tokens is None else min(max_new_tokens, most)

    def _pack(self, messages: Sequence[Message]) -> Prompt:
        return pack_prompt(messages, self.checkpoint, self.options.prompt_options)


def title_from(text: str) -> str:
    """Return the first sentence without its full stop, cut between words to the title length."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = line.strip(" \t-*#\"'“”")
    sentence = re.split(r"(?<=[.!?])\s", line, maxsplit=1)[0].rstrip(" .\"'”")
    sentence = " ".join(sentence.split())
    if len(sentence) <= MAX_TITLE_LENGTH:
        return sentence
    return sentence[: MAX_TITLE_LENGTH - 1].rsplit(" ", 1)[0].rstrip(" ,;") + "…"
