"""Evaluator: answers the questions about one clip on a shared KV-cache prefix.

Every answer starts from the same state: the frames and the text before them, prefilled once. It
does not depend on the other items, or on whether they were asked in this run at all, so a resumed
run gives identical answers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from smolvideo.engines import Engine, Session, SessionEngine
from smolvideo.errors import SmolVideoError
from smolvideo.evals.item import LETTERS, EvalItem
from smolvideo.evals.loader import DecodedClip, PreparedItem, build_message, error_category
from smolvideo.evals.protocol import extract, extractor_for
from smolvideo.evals.run_folder import EvalAnswer, Key
from smolvideo.evals.settings import Condition, EvalSettings
from smolvideo.evidence.other_frames import blank_frames, shuffle_frames, shuffled
from smolvideo.frames import FrameBatch, Images
from smolvideo.pipeline import hash_prompts
from smolvideo.prompt import Prompt, pack_prompt
from smolvideo.record_parts import RecordHashes, hash_token_ids


@dataclass
class Evaluator:
    """Answers items with one engine and one set of settings."""

    engine: Engine
    settings: EvalSettings
    benchmark: str

    def evaluate(self, look: DecodedClip, wanted: set[Key]) -> Iterator[EvalAnswer]:
        """Yield the wanted answers about a clip, condition by condition."""
        for condition in self.settings.conditions:
            prefixes = _SharedPrefixes(self.engine)
            for ready in look.items:
                if (condition, ready.item.id) in wanted:
                    yield self._answer(ready, look, condition, prefixes)

    def _answer(
        self,
        ready: PreparedItem,
        look: DecodedClip,
        condition: Condition,
        prefixes: "_SharedPrefixes",
    ) -> EvalAnswer:
        item = ready.item
        seen = look.video
        unanswered = EvalAnswer(item.id, condition, item.video, file=seen.file, sha256=seen.sha256)
        try:
            # Options, frames and prompt of this condition.
            if ready.error is not None:
                raise ready.error
            order = None
            if condition == "shuffled-options":
                order = shuffled(len(item.options), f"{self.settings.seed}/options/{item.id}")
            batch = None
            if condition != "subtitles-only":
                batch = prefixes.batch(
                    ready.frames,
                    lambda: self._seen(look.batches[ready.frames], condition, item),
                )
            message = build_message(
                self.settings, self.benchmark, item, batch, ready.subtitles, order
            )
            prompt = pack_prompt([message], self.engine.checkpoint, self.settings.prompt_options)
            prompt = prefixes.with_same_images(prompt, ready)
            unanswered = replace(
                unanswered,
                order=order,
                frames=len(prompt.images),
                prompt_tokens=len(prompt),
                hashes=prefixes.hashes(prompt, ready),
                subtitles=None if ready.subtitles == item.subtitles else ready.subtitles,
                subtitles_sha256=ready.subtitles_sha256,
            )
            if self.settings.scoring == "generate":
                return self._generated(unanswered, item, prompt, prefixes)
            return self._scored(unanswered, item, prompt, prefixes)
        except SmolVideoError as error:
            return replace(unanswered, error=str(error), error_kind=error_category(error))

    def _seen(self, batch: FrameBatch, condition: Condition, item: EvalItem) -> FrameBatch:
        if condition == "blind":
            return blank_frames(batch)
        if condition == "shuffled-frames":
            return shuffle_frames(batch, f"{self.settings.seed}/frames/{item.video}")
        return batch

    def _generated(
        self, unanswered: EvalAnswer, item: EvalItem, prompt: Prompt, prefixes: "_SharedPrefixes"
    ) -> EvalAnswer:
        source: Session | Engine = prefixes.session(prompt) or self.engine
        answer = source.stream(prompt, self.settings.generation).result()
        order = unanswered.order or tuple(range(len(item.options)))
        shown = [item.options[place] for place in order]
        extractor = extractor_for(self.settings.extractor, self.benchmark)
        read = extract(extractor, answer.text, shown, item.answer_in(order))
        choice = None if read.choice is None else order[read.choice]
        return replace(
            unanswered,
            text=answer.text,
            choice=choice,
            correct=read.correct,
            how=read.method,
            stop_reason=answer.stop_reason,
            notices=answer.notices or None,
        )

    def _scored(
        self, unanswered: EvalAnswer, item: EvalItem, prompt: Prompt, prefixes: "_SharedPrefixes"
    ) -> EvalAnswer:
        """Choose the most likely letter (as displayed) or option text; the first among equals.

        A letter may be followed by more, as in ``A. red``; a text must be the whole answer, as
        ``red`` would otherwise always be more likely than ``red and blue``.
        """
        count = len(item.options)
        order = unanswered.order or tuple(range(count))
        source: Session | Engine = prefixes.session(prompt) or self.engine
        if self.settings.scoring == "likelihood":
            shown = source.score(prompt, tuple(LETTERS[:count]), with_end=False)
            found = [shown[order.index(place)] for place in range(count)]
        else:
            found = source.score(prompt, item.options)
        scores = tuple(round(score, 4) for score in found)
        choice = max(range(count), key=scores.__getitem__)
        return replace(
            unanswered,
            text=item.options[choice],
            choice=choice,
            correct=choice == item.answer_index,
            how="score",
            scores=scores,
        )


@dataclass
class _SharedPrefixes:
    """Frame batches, image arrays and sessions shared by a clip's questions in one condition."""

    engine: Engine
    _batches: dict[int, FrameBatch] = field(default_factory=dict)
    _images: dict[int, Images] = field(default_factory=dict)
    _image_hashes: dict[int, RecordHashes] = field(default_factory=dict)
    _sessions: dict[tuple[int, ...], Session] = field(default_factory=dict)

    def batch(self, frames: int, make: Callable[[], FrameBatch]) -> FrameBatch:
        if frames not in self._batches:
            self._batches[frames] = make()
        return self._batches[frames]

    def with_same_images(self, prompt: Prompt, ready: PreparedItem) -> Prompt:
        """Reuse the first prompt's image array, so that the session need not compare pixels."""
        if not len(prompt.images):
            return prompt
        return replace(prompt, images=self._images.setdefault(ready.frames, prompt.images))

    def hashes(self, prompt: Prompt, ready: PreparedItem) -> RecordHashes:
        """Return the hashes of ``prompt``; those of its images are computed once."""
        if ready.frames not in self._image_hashes or not len(prompt.images):
            found = hash_prompts([prompt], self.engine.checkpoint, together=True)
            if not len(prompt.images):
                return found
            self._image_hashes[ready.frames] = found
        known = self._image_hashes[ready.frames]
        return replace(known, prompt=hash_token_ids([prompt.token_ids]))

    def session(self, prompt: Prompt) -> Session | None:
        """Return a session with ``prompt`` prefilled exactly up to its last frame; None if the
        engine has no sessions.
        """
        if not isinstance(self.engine, SessionEngine):
            return None
        image = self.engine.checkpoint.image_token_id
        frames_end = max(
            (at for at, token in enumerate(prompt.token_ids, 1) if token == image), default=0
        )
        if not frames_end:
            return self.engine.open_session()
        known = prompt.token_ids[:frames_end]
        if known not in self._sessions:
            self._sessions[known] = self.engine.start_session(replace(prompt, token_ids=known))
        return self._sessions[known].fork()
