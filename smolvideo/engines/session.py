"""Sessions on the same frames: image features and a prefix cache shared by successive prompts.

A session holds the images of its last prompt with their features, and the KV cache of its last
prompt's tokens. A further prompt reuses the features of the images that are the same, and the KV
cache up to the first token that differs. Prompts on one video differ only after the last frame, so
only the question is prefilled again.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from smolvideo.answer import Answer, AnswerStream
from smolvideo.engines.base import Engine, GenerationOptions, OnToken
from smolvideo.engines.batch_generate import generate_batch
from smolvideo.engines.devices import wrap_torch_errors
from smolvideo.engines.feature_keys import frame_keys
from smolvideo.engines.frame_encoder import FrameEncoder
from smolvideo.engines.generate import check_context, generate, log_probabilities
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import torch

    from smolvideo.frames import Images
    from smolvideo.network import KVCache, SmolVLM


class Session:
    """Image features and KV cache of the last prompt, reused as a prefix by the next.

    Open one with ``engine.start_session`` or ``engine.open_session``. Thread-safe as its engine is;
    answers of one session, or of forks, may be iterated in turns.
    """

    def __init__(
        self, checkpoint: Checkpoint, encoder: FrameEncoder, *, cache_capacity: int | None = None
    ) -> None:
        self._checkpoint = checkpoint
        self._encoder = encoder
        self.token_ids: tuple[int, ...] = ()
        self._last_logits: torch.Tensor | None = None  # after all of ``token_ids``
        self._images: Images | None = None
        self._features: torch.Tensor | None = None
        self._cache: KVCache | None = None
        self._room = cache_capacity or checkpoint.context_tokens

    @property
    def _network(self) -> "SmolVLM":
        return self._encoder.network

    def fork(self) -> "Session":
        """Return another session with the same features and KV cache; nothing is computed or
        copied."""
        other = Session(self._checkpoint, self._encoder, cache_capacity=self._room)
        other.token_ids, other._images = self.token_ids, self._images
        other._last_logits = self._last_logits
        other._features = self._features
        other._cache = self._cache.fork() if self._cache else None
        return other

    def encode(self, images: "Images", *, on_progress: OnProgress = no_progress) -> None:
        """Encode those of ``images`` [N, S, S, 3] that the session does not hold, and hold them."""
        with self._encoder.lock:
            self._encode(images, on_progress)

    def select_images(self, indices: Sequence[int]) -> "Session":
        """Return an empty session with the features of the images at ``indices``, in that order.

        The same index may occur several times. Prompts with these images encode nothing, and share
        no prefix with those of this session. Raises ValueError where no images are held.
        """
        with self._encoder.lock:
            if self._images is None or self._features is None:
                raise ValueError("the session holds no images")
            chosen = [*indices]
            other = Session(self._checkpoint, self._encoder, cache_capacity=self._room)
            other._images, other._features = self._images[chosen], self._features[chosen]
        return other

    def open_with(self, images: "Images", *, on_progress: OnProgress = no_progress) -> "Session":
        """Return an empty session that holds ``images`` [N, S, S, 3]; those that this one holds,
        at any place, are not encoded again."""
        import torch

        with self._encoder.lock:
            other = Session(self._checkpoint, self._encoder, cache_capacity=self._room)
            held = [] if self._images is None else frame_keys(b"", self._images)
            places = {digest: place for place, digest in enumerate(held)}
            known = [places.get(digest) for digest in frame_keys(b"", images)]
            missing = [place for place, index in enumerate(known) if index is None]
            encoded, _ = self._encoder.encode(images[missing], on_progress=on_progress)
            features = torch.empty(
                (len(images), *encoded.shape[1:]), device=encoded.device, dtype=encoded.dtype
            )
            features[missing] = encoded
            if self._features is not None:
                found = [(place, index) for place, index in enumerate(known) if index is not None]
                features[[place for place, _ in found]] = self._features[[at for _, at in found]]
            other._images, other._features = images, features
        return other

    def cached_prefix(self, prompt: Prompt) -> tuple[int, int]:
        """Return how many leading images, and how many leading tokens, of ``prompt`` the session
        holds: what need not be encoded and prefilled again."""
        with self._encoder.lock:
            images = self._known_images(prompt.images)
            tokens = min(
                common_prefix_length(self.token_ids, prompt.token_ids),
                self._tokens_before_image(prompt.token_ids, images),
            )
        return images, tokens

    def stream(
        self,
        prompt: Prompt,
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        *,
        on_progress: OnProgress = no_progress,
        on_token: OnToken | None = None,
    ) -> AnswerStream:
        """Return the answer to ``prompt``, reusing features and prefix; see ``Engine.stream``."""
        self._encoder.check_open()
        return generate(
            self._checkpoint,
            prompt,
            generation,
            device=self._encoder.device,
            encode=lambda: (None, self._encode(prompt.images, on_progress)),
            decode=lambda _: _Decoding(self, prompt, on_progress),
            lock=self._encoder.lock,
            on_progress=on_progress,
            on_token=on_token,
        )

    def answer_batch(
        self,
        prompts: Sequence[Prompt],
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        *,
        on_progress: OnProgress = no_progress,
    ) -> list[Answer]:
        """Return the answers to ``prompts``, in their order, decoded together.

        They are the answers of ``stream``, up to the last bits of the logits. Latency is little
        more than that of the longest answer; KV memory grows with the number of prompts. The common
        prefix is prefilled and stored once. Raises as ``Engine.stream`` does, before anything is
        computed where a prompt does not fit.
        """

        def read(prompt: Prompt) -> "tuple[torch.Tensor, KVCache]":
            logits = self._read_tokens(prompt)
            assert self._cache is not None
            return logits, self._cache

        with self._encoder.lock:
            return generate_batch(
                self._network,
                self._checkpoint,
                prompts,
                generation,
                encode=lambda prompt: self._encode(prompt.images, on_progress),
                read=read,
                prefix_length=self._common_prefix_length(prompts),
                on_progress=on_progress,
            )

    def score(
        self, prompt: Prompt, answers: Sequence[str], *, with_end: bool = True
    ) -> list[float]:
        """Return the log-likelihood of each text as the answer to ``prompt``; see ``Engine.score``.

        Afterwards the session holds ``prompt``, without the answers.
        """
        with self._encoder.lock:
            return log_probabilities(
                self._checkpoint,
                prompt,
                answers,
                with_end=with_end,
                read_prompt=lambda: self.prefill(prompt),
                read_answer=self._logits_after_prompt,
            )

    def prefill(self, prompt: Prompt, *, on_progress: OnProgress = no_progress) -> "torch.Tensor":
        """Encode and prefill ``prompt``; return the logits [vocabulary] of the next token."""
        check_context(prompt, self._checkpoint, 0)
        with self._encoder.lock:
            self._encode(prompt.images, on_progress)
            return self._read_tokens(prompt)

    def _encode(self, images: "Images", on_progress: OnProgress) -> int:
        """Encode those of ``images`` that the session does not hold; return how many of these came
        from the feature cache."""
        import torch

        known, from_cache = self._known_images(images), 0
        encode = self._encoder.encode
        if self._features is None or self._images is None:
            self._features, from_cache = encode(images, on_progress=on_progress)
        elif known < len(images) or known < len(self._images):
            rest, from_cache = encode(images[known:], on_progress=on_progress)
            self.token_ids = self.token_ids[: self._tokens_before_image(self.token_ids, known)]
            self._last_logits = None
            self._features = torch.cat((self._features[:known], rest))
        self._images = images
        return from_cache

    def _known_images(self, images: "Images") -> int:
        """Number of leading ``images`` that the session holds."""
        return 0 if self._images is None else common_image_prefix(self._images, images)

    def _common_prefix_length(self, prompts: Sequence[Prompt]) -> int:
        """Number of leading tokens, images included, that all ``prompts`` share."""
        if not prompts:
            return 0
        first = prompts[0]
        return min(
            min(
                common_prefix_length(first.token_ids, other.token_ids),
                self._tokens_before_image(
                    first.token_ids, common_image_prefix(first.images, other.images)
                ),
            )
            for other in prompts
        )

    def _tokens_before_image(self, token_ids: Sequence[int], images: int) -> int:
        """Number of ``token_ids`` before those of image number ``images``, from 0."""
        image_token_id = self._checkpoint.image_token_id
        places = [at for at, token in enumerate(token_ids) if token == image_token_id]
        behind = images * self._checkpoint.tokens_per_image
        return places[behind] if behind < len(places) else len(token_ids)

    def _read_tokens(self, prompt: Prompt) -> "torch.Tensor":
        """Prefill the tokens of ``prompt`` after the cached prefix; its images must be encoded.

        The logits of a prompt that the session holds are returned again: the last token, decoded
        alone, would differ from the prefill by rounding.
        """
        import torch

        if self._last_logits is not None and prompt.token_ids == self.token_ids:
            return self._last_logits
        network, image_token_id = self._network, self._checkpoint.image_token_id
        device, token_ids = self._encoder.device, prompt.token_ids
        # longest cached prefix, at most all but the last token, whose logits are needed
        known = min(common_prefix_length(self.token_ids, token_ids), len(token_ids) - 1)
        with wrap_torch_errors(str(device), "reading the prompt"), torch.inference_mode():
            if self._cache is None:
                self._cache = network.new_cache(self._room)
            self._cache.truncate(known)
            # Before the prefill: if it fails half-way, ``token_ids`` match the cache.
            self.token_ids, self._last_logits = token_ids[:known], None
            # embed and prefill the rest
            ids = torch.tensor([token_ids[known:]], device=device)
            assert self._features is not None
            seen = token_ids[:known].count(image_token_id)
            features = self._features.flatten(0, 1)[seen:]
            vectors = network.embed_inputs(ids, features, image_token_id)
            logits = network.prefill(vectors, self._cache)[-1]
        self.token_ids, self._last_logits = token_ids, logits
        return logits

    def _logits_after_prompt(self, token_ids: Sequence[int]) -> "torch.Tensor":
        """Return the logits [L, vocabulary] after each of ``token_ids``; the session stays as it
        is."""
        import torch

        network, device = self._network, self._encoder.device
        assert self._cache is not None
        with wrap_torch_errors(str(device), "scoring answers"), torch.inference_mode():
            vectors = network.embed_tokens(token_ids)
            return network.prefill(vectors, self._cache.fork(), last=len(token_ids))


@runtime_checkable
class SessionEngine(Engine, Protocol):
    """An engine whose prompts share image features and KV cache, within a session or a batch."""

    def open_session(self, *, cache_capacity: int | None = None) -> Session:
        """Open an empty session whose KV cache holds up to ``cache_capacity`` tokens (the context
        by default)."""
        ...

    def start_session(self, prompt: Prompt, *, on_progress: OnProgress = no_progress) -> Session:
        """Open a session and prefill ``prompt``. Raises PromptError and ModelError."""
        ...

    def answer_batch(
        self,
        prompts: Sequence[Prompt],
        generation: GenerationOptions = ...,
        *,
        on_progress: OnProgress = no_progress,
    ) -> list[Answer]:
        """Return the answers to ``prompts``, on the same frames or not; see
        ``Session.answer_batch``."""
        ...


class _Decoding:
    """Decoder state of one answer: the session prefills the prompt, and the answer is decoded in a
    fork of its cache."""

    def __init__(self, session: Session, prompt: Prompt, on_progress: OnProgress) -> None:
        self._session = session
        self._prompt = prompt
        self._on_progress = on_progress
        self._cache: KVCache | None = None

    def prefill(self) -> "torch.Tensor":
        logits = self._session._read_tokens(self._prompt)
        assert self._session._cache is not None
        self._cache = self._session._cache.fork()
        return logits

    def decode(self, token_ids: Sequence[int]) -> "torch.Tensor":
        import torch

        from smolvideo.network.compilation import wait_for_kernels

        network, device = self._session._network, self._session._encoder.device
        assert self._cache is not None
        wait_for_kernels(network.decode_kernels, self._on_progress)
        with wrap_torch_errors(str(device), "answering"), torch.inference_mode():
            vectors = network.embed_tokens(token_ids)
            return network.prefill(vectors, self._cache)[-1]


def common_image_prefix(one: "Images", other: "Images") -> int:
    """Number of leading images that are the same."""
    import numpy as np

    if one is other:
        return len(one)
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if not np.array_equal(a, b):
            return place
    return min(len(one), len(other))


def common_prefix_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of leading ids that are the same."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
