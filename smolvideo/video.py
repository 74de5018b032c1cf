"""Questions about an open video, or several: frames are decoded and encoded once for all of them.

ask, stream     the whole answer (``Answer``), or its pieces while they are generated
aask, astream   the same for ``asyncio``
"""

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack

from smolvideo.answer import Answer, AnswerStream
from smolvideo.calibration import kept_calibration
from smolvideo.closing import ClosedOnExit
from smolvideo.cost.choose import all_drawn, checkpoint_and_loader
from smolvideo.engines import Engine, GenerationOptions, SessionEngine
from smolvideo.engines.choices import check_choices
from smolvideo.errors import ModelError, UsageError
from smolvideo.frames import FrameBatch, VideoMetadata
from smolvideo.pipeline import (
    AsyncAnswerStream,
    PreparedPrompt,
    answer_by_choice,
    call_in_thread,
    notices_for_model,
    prepare,
    reserve_context,
    stop_when,
    stream_answer,
    unknown_word_notices,
)
from smolvideo.pipeline.subtitles import subtitles_for_sampling
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import (
    PLACEHOLDER_QUESTION,
    Message,
    PromptOptions,
    check_question,
    count_tokens,
    pack_prompt,
)
from smolvideo.sampling import FrameSampling
from smolvideo.source import DownloadOptions, Sources, VideoSource, resolve_all

Result = TypeVar("Result")


class OpenOptions(TypedDict, total=False):
    """Options of ``open`` and ``ask``; see ``Video``."""

    sampling: FrameSampling
    prompt_options: PromptOptions
    generation: GenerationOptions
    download: DownloadOptions
    reader: str
    subtitles: str | Path | None
    adapter: str | Path | None
    on_progress: OnProgress


class AskOptions(TypedDict, total=False):
    """Options of a question about an open video; see ``Video.ask``."""

    generation: GenerationOptions | None
    history: Sequence[Message]
    on_progress: OnProgress


class Video(ClosedOnExit):
    """An open video, or several, with its frames decoded; each question about it stands alone.

    ``model`` is a loaded engine, which stays open, or a name or folder, whose engine is loaded with
    default options and closed together with the video; ``auto`` is nano for drawn videos, else the
    best published model on this machine, and downloads nothing. ``source`` is a path, a URL, or a
    list of them. ``sampling`` and ``prompt_options`` choose and resize the frames; ``generation``
    is the default of each question; ``download`` is for URLs, and its ``offline`` for the model,
    too; ``subtitles`` is a file, or ``auto`` for the one next to the video or its text track.
    ``adapter`` is the folder of a LoRA adapter; a loaded engine has its own, or none.

    The first question encodes the frames; every further one prefills only its own words. (The
    engine ``transformers`` shares nothing between questions.) A question too long for the context
    together with the frames has fewer of them, decoded anew, and a notice says so.

    Thread-safe: questions of several threads are answered in turns. Raises as ``resolve_source``,
    ``open_checkpoint``, ``prepare`` and ``load_engine`` do; NoModelError where ``auto`` finds none.
    """

    def __init__(
        self,
        model: Engine | str | Path,
        source: Sources,
        *,
        sampling: FrameSampling = FrameSampling(),  # noqa: B008 -- frozen
        prompt_options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        download: DownloadOptions = DownloadOptions(),  # noqa: B008 -- frozen
        reader: str = "auto",
        subtitles: str | Path | None = None,
        adapter: str | Path | None = None,
        on_progress: OnProgress = no_progress,
        only_question: str | None = None,
    ) -> None:
        """Resolve and decode; ``only_question`` needs no reserve of the context for others."""
        if only_question is not None:
            check_question(only_question)
        sources = resolve_all(source, download=download, on_progress=on_progress)
        self._owns_engine = isinstance(model, str | Path)
        checkpoint, load = checkpoint_and_loader(
            model,
            drawn=lambda: all_drawn(sources, reader=reader),
            frames=sampling.max_frames,
            adapter=adapter,
            offline=download.offline,
            on_progress=on_progress,
        )
        # Read the subtitles and decode the frames; only then load weights.
        heard: list[str] = []
        read = partial(subtitles_for_sampling, reader=reader, on_notice=heard.append)
        text = None if subtitles is None else read(str(subtitles), sources, sampling)
        self._prepare = partial(
            prepare,
            checkpoint,
            sources,
            sampling=sampling,
            prompt_options=prompt_options,
            reader=reader,
            subtitles=text,
            notices=heard,
        )
        question, room = only_question or PLACEHOLDER_QUESTION, generation
        if only_question is None:
            room = reserve_context(generation, sampling, checkpoint)
        self._opened = self._prepare(question, generation=room, on_progress=on_progress)
        self.notices: tuple[str, ...] = (
            *notices_for_model(checkpoint, self._opened.batches),
            *heard,
            *self._opened.frame_notices,
        )
        self.generation = generation
        self.engine: Engine = load()
        self._session = (
            self.engine.open_session() if isinstance(self.engine, SessionEngine) else self.engine
        )
        self._decode_seconds = dict(self._opened.seconds)
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def sources(self) -> tuple[VideoSource, ...]:
        """The resolved sources, in order."""
        return self._opened.sources

    @property
    def batches(self) -> tuple[FrameBatch, ...]:
        """The frames of each source, as the model gets them."""
        return self._opened.batches

    @property
    def frames(self) -> FrameBatch:
        """The frames of the only source. Raises UsageError for several: see ``batches``."""
        if len(self.batches) != 1:
            raise UsageError(
                f"{len(self.batches)} sources are open: `frames` and `metadata` are of one",
                hint="`batches` holds the frames and the metadata of each",
            )
        return self.batches[0]

    @property
    def metadata(self) -> VideoMetadata:
        """The metadata of the only source. Raises UsageError for several: see ``batches``."""
        return self.frames.metadata

    def ask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """Return the whole answer.

        ``generation`` replaces the options of the video, and ``on_progress`` is called as the work
        proceeds. ``history`` are earlier questions and answers as messages of ``user`` and
        ``assistant``, for a question that refers to them; the frames precede the first.

        Raises PromptError for an empty question and where it does not fit the context, ModelError
        where the device fails, and after ``close``.
        """
        return self.stream(question, **options).result()

    def stream(self, question: str, **options: Unpack[AskOptions]) -> AnswerStream:
        """Return the answer as a stream of pieces, generated while it is iterated; see ``ask``."""
        prepared = self._pack(question, **options)
        on_progress = options.get("on_progress", no_progress)
        return stream_answer(self._session, prepared, on_progress=on_progress)

    async def aask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """Return the whole answer, computed in a thread; see ``ask``.

        Cancelling the task stops generation after the current token. ``on_progress`` is called in
        the thread.
        """
        return await self.astream(question, **options).result()

    def astream(self, question: str, **options: Unpack[AskOptions]) -> AsyncAnswerStream:
        """Return the answer as an asynchronous stream of pieces; see ``AsyncAnswerStream``."""
        with self._lock:
            self._check_open()
            if self._executor is None:  # one thread: questions are answered in order
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="smolvideo-ask")
            executor = self._executor

        def start(report: OnProgress) -> AnswerStream:
            with_report: AskOptions = {**options, "on_progress": report}
            return self.stream(question, **with_report)

        return AsyncAnswerStream(
            start, executor, on_progress=options.get("on_progress", no_progress)
        )

    def score(self, question: str, answers: Sequence[str], *, with_end: bool = True) -> list[float]:
        """Return the log-likelihood of each text as the answer to ``question``, in order; see
        ``Engine.score``."""
        shortest = replace(self.generation, max_new_tokens=1, schema=None)
        prepared = self._pack(question, generation=shortest)
        return self._session.score(prepared.prompt, answers, with_end=with_end)

    def choose(
        self,
        question: str,
        choices: Sequence[str],
        *,
        history: Sequence[Message] = (),
        calibrated: bool = True,
        on_progress: OnProgress = no_progress,
    ) -> Answer:
        """Return the most likely of ``choices``; ``Answer.choices`` has the probability of each.

        They are read from the logits after the prompt, nothing is generated. Where
        ``smolvideo ask --calibrate`` has fitted a scale for the model and these choices, it is
        applied if ``calibrated``.

        >>> import smolvideo
        >>> with smolvideo.open("nano", "samples/circle_right.mp4") as video:
        ...     answer = video.choose("Does anything move?", ["yes", "no"], calibrated=False)
        ...     print(answer.text, answer.choices.probabilities["yes"] > 0.5)
        yes True

        Raises UsageError for fewer than two choices, or equal ones, and otherwise as ``ask``.
        """
        shortest = replace(self.generation, max_new_tokens=1, schema=None)
        choices = check_choices(choices)
        prepared = self._pack(
            question, generation=shortest, history=history, on_progress=on_progress
        )
        checkpoint = self.engine.checkpoint
        return answer_by_choice(
            self._session,
            checkpoint,
            prepared,
            choices,
            calibration=kept_calibration(checkpoint, choices) if calibrated else None,
            on_progress=on_progress,
        )

    def close(self) -> None:
        """Free the features and the prefix cache, and the engine if this video loaded it.

        Closing again does nothing. Frames, metadata and notices stay.
        """
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        if self._owns_engine:
            self.engine.close()
        self._session = self.engine

    def __repr__(self) -> str:
        names = ", ".join(source.name for source in self.sources)
        frames = sum(map(len, self.batches))
        state = ", closed" if self._closed else ""
        return f"<Video {names}: {frames} frames, {self.engine.checkpoint.name}{state}>"

    def _check_open(self) -> None:
        if self._closed:
            raise ModelError("the video is closed", hint="ask inside of its `with` block")

    def _pack(
        self,
        question: str,
        *,
        generation: GenerationOptions | None = None,
        history: Sequence[Message] = (),
        on_progress: OnProgress = no_progress,
    ) -> PreparedPrompt:
        """Pack ``question`` with the decoded frames; with fewer, decoded anew, if need be."""
        self._check_open()
        check_question(question)
        generation = generation or self.generation
        opened, checkpoint = self._opened, self.engine.checkpoint
        options = opened.prompt_options
        # The frames precede the first of the messages.
        first, *others = (*history, Message("user", (question,)))
        if first.role != "user":
            raise UsageError("the history of a question begins with a message of the `user`")
        frames = opened.messages[0].content[:-1]
        messages = (replace(first, content=(*frames, *first.content)), *others)
        tokens = count_tokens(messages, checkpoint, options)
        if not history and tokens + generation.max_new_tokens > checkpoint.context_tokens:
            return self._prepare(question, generation=generation, on_progress=on_progress)
        with self._lock:
            seconds, self._decode_seconds = self._decode_seconds, {}
        return replace(
            opened,
            question=question,
            messages=messages,
            prompt=pack_prompt(messages, checkpoint, options),
            generation=generation.with_drawn_seed(),
            notices=(*self.notices, *unknown_word_notices(question, checkpoint)),
            seconds=seconds,
        )


def open(model: Engine | str | Path, source: Sources, **options: Unpack[OpenOptions]) -> Video:
    """Open a video, or several, for any number of questions; see ``Video`` for the options.

    >>> import smolvideo
    >>> with smolvideo.open("nano", "samples/circle_right.mp4") as video:
    ...     print(video.ask("What moves?"))
    a purple circle
    """
    return Video(model, source, **options)


def ask(
    model: Engine | str | Path, source: Sources, question: str, **options: Unpack[OpenOptions]
) -> Answer:
    """Answer one question; see ``Video`` for the options, and ``Video.ask``.

    >>> import smolvideo
    >>> smolvideo.ask("nano", "samples/circle_right.mp4", "What moves?").text
    'a purple circle'
    """
    on_progress = options.get("on_progress", no_progress)
    with Video(model, source, only_question=question, **options) as video:
        return video.ask(question, on_progress=on_progress)


@asynccontextmanager
async def aopen(
    model: Engine | str | Path, source: Sources, **options: Unpack[OpenOptions]
) -> AsyncIterator[Video]:
    """Open a video in a thread, for ``async with``; see ``Video`` for the options.

    Cancelling the task stops decoding, and the download of a file.
    """
    video = await _in_thread(Video, model, source, **options)
    try:
        yield video
    finally:
        video.close()


async def aask(
    model: Engine | str | Path, source: Sources, question: str, **options: Unpack[OpenOptions]
) -> Answer:
    """Answer one question in a thread; see ``ask``. Cancelling the task stops the work."""
    return await _in_thread(ask, model, source, question, **options)


async def _in_thread(
    work: Callable[..., Result], *arguments: object, **options: Unpack[OpenOptions]
) -> Result:
    """Call ``work`` in a thread, stopped by its progress callback if the task is cancelled."""
    cancelled = threading.Event()
    report = stop_when(cancelled, options.get("on_progress", no_progress))
    stoppable: OpenOptions = {**options, "on_progress": report}
    return await call_in_thread(partial(work, *arguments, **stoppable), None, cancelled)
