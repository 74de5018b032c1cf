"""Hashes of the prompts of a summary, for its record."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from smolvideo.answer import Answer
from smolvideo.models import Checkpoint
from smolvideo.models.weight_hash import weights_hash
from smolvideo.record_parts import RecordHashes, hash_images, hash_token_ids
from smolvideo.summaries.summariser import PromptSteps

Result = TypeVar("Result")


@dataclass
class PromptHashes:
    """Hashes of the prompts with frames so far; no image is kept."""

    frames: list[str] = field(default_factory=list)
    _prompts: list[str] = field(default_factory=list)

    def of(self, checkpoint: Checkpoint) -> RecordHashes:
        """Return the hashes of a record: of the images of each window, and of all token ids."""
        prompts = hashlib.sha256("\n".join(self._prompts).encode()).hexdigest()
        weights = None if checkpoint.weights is None else weights_hash(checkpoint)
        return RecordHashes(tuple(self.frames), prompts, weights)

    def watch(self, steps: PromptSteps[Result]) -> PromptSteps[Result]:
        """Run ``steps``, and hash each of their prompts with frames."""
        answers: Sequence[Answer] | None = None
        while True:
            try:
                batch = next(steps) if answers is None else steps.send(answers)
            except StopIteration as end:
                result: Result = end.value
                return result
            with_frames = [prompt for prompt in batch.prompts if len(prompt.images)]
            if with_frames:  # all of one batch have the same frames
                self.frames.append(hash_images(with_frames[0].images))
                self._prompts.append(hash_token_ids(prompt.token_ids for prompt in with_frames))
            answers = yield batch
