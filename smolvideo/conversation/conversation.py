"""Conversation state: attachments, turns, and the engine session with its KV cache.

All methods are synchronous; only ``RunningTurn.stop`` may be called from another thread.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from smolvideo.answer import AnswerStream
from smolvideo.conversation.context import Context, describe_trimmed, trim_to_context
from smolvideo.conversation.turns import Attachment, RunningTurn, Settings, Turn
from smolvideo.engines import Engine, Session, SessionEngine
from smolvideo.errors import PromptError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.pipeline import (
    PreparedPrompt,
    notices_for_model,
    prepare,
    reserve_context,
    unknown_word_notices,
    with_prepared,
)
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import PLACEHOLDER_QUESTION, pack_prompt
from smolvideo.sampling import FrameSampling
from smolvideo.source import VideoSource

LoadEngine = Callable[[Settings, OnProgress], Engine]
"""Loads the engine of a conversation; raises as ``load_engine`` does."""


class ConversationStore(Protocol):
    """Persistent storage of a conversation; see ``event_log``."""

    def keep_settings(self, settings: Settings) -> None: ...
    def save_attachment(self, attachment: Attachment) -> None: ...
    def save_turn(self, turn: Turn) -> None: ...
    def save_undo(self) -> None: ...


class Conversation:
    """Attachments and turns, with an engine session that caches the KV entries of the prefix.

    Not thread-safe, except that ``attachments`` and ``turns`` (in order) may be read at any time.
    """

    def __init__(
        self, settings: Settings, load: LoadEngine, *, store: ConversationStore | None = None
    ) -> None:
        self.settings = settings
        self.store = store
        self.attachments: list[Attachment] = []
        self.turns: list[Turn] = []
        self.context = Context(())
        self.last_asked: RunningTurn | None = None
        self._load = load
        self._checkpoint: Checkpoint | None = None
        self._engine: Engine | None = None
        self._session: Session | None = None
        self._session_engine: SessionEngine | None = None
        self._decode_seconds = 0.0
        self._notices: list[str] = []

    @property
    def engine(self) -> Engine | None:
        """The engine, once it is loaded."""
        return self._engine

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint, once it is opened."""
        return self._checkpoint

    def open_checkpoint(self, *, on_progress: OnProgress = no_progress) -> Checkpoint:
        """Open the checkpoint on first use, without weights: attaching needs only its metadata."""
        if self._checkpoint is None:
            self._checkpoint = self.settings.spec.checkpoint(on_progress=on_progress)
        return self._checkpoint

    def load_engine(self, *, on_progress: OnProgress = no_progress) -> Engine:
        """Load the engine on first use."""
        if self._engine is None:
            self._engine = self._load(self.settings, on_progress)
        return self._engine

    def attach(
        self,
        sources: Sequence[VideoSource],
        *,
        sampling: FrameSampling | None = None,
        window: tuple[float, float] | None = None,
        on_progress: OnProgress = no_progress,
    ) -> list[Attachment]:
        """Decode frames of ``sources`` and attach them to the next question.

        Raises as ``prepare`` does; the conversation is then unchanged.
        """
        number = max((attachment.number for attachment in self.attachments), default=0) + 1
        sampling = sampling or self._sampling_of(sources, beside_others=bool(self.attachments))
        attachments = self._looked(sources, sampling, window, on_progress)
        attachments = [
            replace(attachment, number=number + place)
            for place, attachment in enumerate(attachments)
        ]
        self.attachments += attachments
        self._save_attachments(attachments)
        return attachments

    def check_source(self, source: VideoSource, *, on_progress: OnProgress = no_progress) -> None:
        """Raise what ``attach`` would raise for ``source``; the conversation is unchanged."""
        kept = self._decode_seconds, list(self._notices)
        try:
            sampling = self._sampling_of([source], beside_others=True)
            self._looked([source], sampling, None, on_progress)
        finally:
            self._decode_seconds, self._notices = kept

    def zoom(
        self,
        attachment: Attachment,
        start_seconds: float,
        end_seconds: float,
        *,
        on_progress: OnProgress = no_progress,
    ) -> Attachment:
        """Attach one time window of a video, sampled with the frame budget of the whole.

        Raises UsageError for an image and for an empty window, otherwise as ``attach``.
        """
        if not attachment.is_video:
            raise UsageError(f"`{attachment.source.name}` has no time to zoom into")
        if end_seconds <= start_seconds:
            raise UsageError("the end of the window must be after its start")
        sampling = replace(
            self.settings.sampling, start_seconds=start_seconds, end_seconds=end_seconds
        )
        window = (start_seconds, min(end_seconds, attachment.batch.metadata.duration_seconds))
        (zoomed,) = self.attach(
            [attachment.source], sampling=sampling, window=window, on_progress=on_progress
        )
        return zoomed

    def resample(self, max_frames: int, *, on_progress: OnProgress = no_progress) -> None:
        """Replace the frames of all attachments by ``max_frames`` new ones.

        If a rate or strategy yields fewer, uniform sampling is used instead. Raises PromptError
        where they do not fit, with the number that does.
        """

        def by_strategy(sampling: FrameSampling) -> FrameSampling:
            return replace(sampling, max_frames=max_frames, fps=None, reduce_to_fit=False)

        def evenly(sampling: FrameSampling) -> FrameSampling:
            return replace(by_strategy(sampling), strategy="uniform")

        again = by_strategy
        attachments = self._resample_all(again, on_progress)
        strategies = {
            self.settings.sampling.strategy,
            *(one.sampling.strategy for one in attachments),
        }
        if sum(len(attachment.batch) for attachment in attachments) < max_frames and strategies != {
            "uniform"
        }:
            again = evenly
            attachments = self._resample_all(again, on_progress)
        self.settings = replace(self.settings, sampling=again(self.settings.sampling))
        self._replace_attachments(attachments)

    def switch_model(self, model: str, *, on_progress: OnProgress = no_progress) -> Engine:
        """Continue with another model and the same context. Raises as ``load_engine`` does.

        If it fails, the conversation keeps its model.
        """
        before = (self.settings, self._checkpoint, self._engine)
        self.settings = replace(
            self.settings, model=model, revision=None, model_reason=None, adapter=None
        )
        self._checkpoint = self._engine = None
        try:
            self.open_checkpoint(on_progress=on_progress)
            attachments = self._resample_all(lambda sampling: sampling, on_progress)
            engine = self.load_engine(on_progress=on_progress)
        except BaseException:
            self.settings, self._checkpoint, self._engine = before
            raise
        self._session = None
        self._replace_attachments(attachments)
        return engine

    def set_subtitles(
        self, attachment: Attachment, subtitles: str | None, *, notices: Iterable[str] = ()
    ) -> None:
        """Put ``subtitles``, a formatted text, after the frames of ``attachment``.

        ``notices`` on them become part of the next turn.
        """
        self._replace_attachments([replace(attachment, subtitles=subtitles)])
        self.note(notices)

    def note(self, notices: Iterable[str]) -> None:
        """Add ``notices`` to the next turn, without duplicates."""
        self._notices += [one for one in dict.fromkeys(notices) if one not in self._notices]

    def undo(self) -> Turn | None:
        """Remove and return the last turn; None if there is none."""
        if not self.turns:
            return None
        turn = self.turns.pop()
        if self.context.first_turn > len(self.turns):
            self.context = replace(self.context, first_turn=len(self.turns))
        if self.store is not None:
            self.store.save_undo()
        return turn

    def prepare(self, question: str) -> PreparedPrompt:
        """Pack ``question`` with the trimmed context of the conversation.

        Raises PromptError for an empty question, without sources, and where it does not fit.
        """
        if not question.strip():
            raise PromptError("the question is empty", hint='ask something: "What happens?"')
        if not self.attachments:
            raise PromptError("there is nothing to look at yet", hint="add a video: `/add FILE`")
        # Trim the conversation to the context.
        checkpoint, settings = self.open_checkpoint(), self.settings
        before = self.context
        context = trim_to_context(
            self.attachments,
            self.turns,
            question,
            checkpoint,
            settings.prompt_options,
            max_new_tokens=settings.generation.max_new_tokens,
            previous=before,
        )
        prompt = pack_prompt(context.messages, checkpoint, settings.prompt_options)
        self.context = context
        # Collect the frames and the notices.
        attachments = self.attachments[context.first_attachment :]
        batches = tuple(attachment.batch for attachment in attachments)
        notices = (
            *notices_for_model(checkpoint, batches),
            *self._notices,
            *unknown_word_notices(question, checkpoint),
            *describe_trimmed(before, context, self.attachments, self.turns),
        )
        return PreparedPrompt(
            question=question,
            sources=tuple(attachment.source for attachment in attachments),
            messages=context.messages,
            prompt=prompt,
            batches=batches,
            sampling=settings.sampling,
            prompt_options=settings.prompt_options,
            generation=settings.generation.with_drawn_seed(),
            reader=settings.reader,
            notices=notices,
            frame_notices=(),
            seconds={"decode": self._decode_seconds} if self._decode_seconds else {},
        )

    def prefill(self, *, on_progress: OnProgress = no_progress) -> None:
        """Prefill the context of the next question into the KV cache before it is asked."""
        engine = self.load_engine(on_progress=on_progress)
        if self.attachments and isinstance(engine, SessionEngine):
            prepared = self.prepare(PLACEHOLDER_QUESTION)
            on_progress(Progress("prefill"))
            self._engine_session(engine).prefill(prepared.prompt, on_progress=on_progress)
            on_progress(Progress("prefill", 1, 1))

    def ask(self, question: str, *, on_progress: OnProgress = no_progress) -> RunningTurn:
        """Return the running turn of ``question``, which is computed while it is iterated."""
        self.last_asked = RunningTurn(
            question,
            model=self.settings.model,
            prepare=lambda: self.prepare(question),
            stream=self._stream,
            keep=self._keep,
            on_progress=on_progress,
        )
        return self.last_asked

    def fork_session(self, engine: SessionEngine) -> Session:
        """Return a session with the features and the KV cache of the conversation's own, which
        stays as it is."""
        return self._engine_session(engine).fork()

    def replace_last_turn(self, turn: Turn) -> None:
        """Put ``turn`` in place of the last one, which it completes."""
        self.turns[-1] = turn
        if self.store is not None:
            self.store.save_undo()
            self.store.save_turn(turn)

    def _stream(self, prepared: PreparedPrompt, on_progress: OnProgress) -> AnswerStream:
        engine = self.load_engine(on_progress=on_progress)
        source: Engine | Session = engine
        if isinstance(engine, SessionEngine):
            source = self._engine_session(engine)
        stream = source.stream(prepared.prompt, prepared.generation, on_progress=on_progress)
        return with_prepared(prepared, stream)

    def _engine_session(self, engine: SessionEngine) -> Session:
        if self._session is None or self._session_engine is not engine:
            self._session, self._session_engine = engine.open_session(), engine
        return self._session

    def _keep(self, turn: Turn) -> None:
        self.turns.append(turn)
        self._decode_seconds = 0.0
        self._notices.clear()
        if self.store is not None:
            self.store.save_turn(turn)

    def _sampling_of(self, sources: Sequence[VideoSource], *, beside_others: bool) -> FrameSampling:
        """Return the settings' sampling; without its time window for images next to videos."""
        stills = all(source.kind == "image" for source in sources)
        sampling = self.settings.sampling
        return sampling.without_window() if stills and beside_others else sampling

    def _looked(
        self,
        sources: Sequence[VideoSource],
        sampling: FrameSampling,
        window: tuple[float, float] | None,
        on_progress: OnProgress,
    ) -> list[Attachment]:
        """Decode attachments; their ``number`` is 0 until the caller sets it."""
        checkpoint = self.open_checkpoint(on_progress=on_progress)
        prepared = prepare(
            checkpoint,
            list(sources),
            PLACEHOLDER_QUESTION,
            sampling=sampling,
            prompt_options=self.settings.prompt_options,
            generation=reserve_context(self.settings.generation, sampling, checkpoint),
            reader=self.settings.reader,
            on_progress=on_progress,
        )
        self._decode_seconds += prepared.seconds.get("decode", 0.0)
        self.note(prepared.frame_notices)
        return [
            Attachment(0, source, batch, sampling, turn=len(self.turns), window=window)
            for source, batch in zip(prepared.sources, prepared.batches, strict=True)
        ]

    def _resample_all(
        self, change: Callable[[FrameSampling], FrameSampling], on_progress: OnProgress
    ) -> list[Attachment]:
        """Decode all attachments again; those attached together share the frame budget again."""
        found: list[Attachment] = []
        for group in _taken_together(self.attachments):
            again = self._looked(
                [attachment.source for attachment in group],
                change(group[0].sampling),
                group[0].window,
                on_progress,
            )
            found += [
                replace(new, number=old.number, turn=old.turn, subtitles=old.subtitles)
                for old, new in zip(group, again, strict=True)
            ]
        return found

    def _replace_attachments(self, attachments: Sequence[Attachment]) -> None:
        new = {attachment.number: attachment for attachment in attachments}
        self.attachments = [
            new.get(attachment.number, attachment) for attachment in self.attachments
        ]
        self.context = Context(
            (), min(self.context.first_turn, len(self.turns)), self.context.first_attachment
        )
        if self.store is not None:
            self.store.keep_settings(self.settings)
        self._save_attachments(attachments)

    def _save_attachments(self, attachments: Sequence[Attachment]) -> None:
        if self.store is not None:
            for attachment in attachments:
                self.store.save_attachment(attachment)


def _taken_together(attachments: Sequence[Attachment]) -> list[list[Attachment]]:
    """Group the attachments that were attached together and so share a frame budget."""
    groups: dict[tuple[int, FrameSampling, object], list[Attachment]] = {}
    for attachment in attachments:
        groups.setdefault((attachment.turn, attachment.sampling, attachment.window), []).append(
            attachment
        )
    return list(groups.values())
