"""The engine ``transformers``: the networks of the transformers library, with our generation loop.

It is the reference for other engines. ``generate`` of ``engines.generate`` does what the library's
method does, one step at a time, so that text can be shown, timed and stopped at every token; greedy
answers are equal.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smolvideo.answer import AnswerStream
from smolvideo.engines.base import GenerationOptions
from smolvideo.engines.devices import choose_device, choose_dtype, set_num_threads, synchronize
from smolvideo.engines.feature_cache import FeatureCache
from smolvideo.engines.generate import generate
from smolvideo.engines.scoring import log_probabilities
from smolvideo.engines.torch_errors import wrap_torch_errors
from smolvideo.errors import ModelError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import torch

    from smolvideo.frames import Images

_FRAMES_PER_CHUNK = {"cpu": 4, "mps": 4, "cuda": 16}
"""Frames that go through the vision tower together, so that memory does not grow with the video; a
chunk of four already costs a quarter less than four single frames (measured on a CPU, 512 pixels,
bfloat16)."""


def load_transformers_engine(
    checkpoint: Checkpoint,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    cache: FeatureCache | None = None,
    on_progress: OnProgress = no_progress,
) -> "TransformersEngine":
    """Load ``checkpoint``, ready to answer. Raises as ``load_engine`` does.

    Raises UsageError with a ``cache`` or with quantized weights: a reference computes everything
    itself, from the weights as they are.
    """
    if quantize != "none":
        raise UsageError(
            f"the engine `transformers` does not know `--quantize {quantize}`",
            hint="run with `--engine native`, or leave `--quantize` out",
        )
    if cache is not None:
        raise UsageError("the engine `transformers` keeps no features in a cache")
    from smolvideo.engines.transformers_weights import load_network

    if checkpoint.weights is None:
        raise ModelError(f"the weights of `{checkpoint.name}` were not fetched")
    started = time.perf_counter()
    on_progress(Progress("load", label=checkpoint.name))
    set_num_threads()
    place = choose_device(device)
    number_format = choose_dtype(place, checkpoint.weights.parameters, dtype)
    network = load_network(checkpoint, place, number_format)
    on_progress(Progress("load", done=1, total=1, label=checkpoint.name))
    return TransformersEngine(checkpoint, network, load_seconds=time.perf_counter() - started)


class TransformersEngine:
    """A network of transformers that answers one prompt at a time."""

    name = "transformers"
    quantize = "none"

    def __init__(self, checkpoint: Checkpoint, network: Any, *, load_seconds: float = 0.0) -> None:
        self.checkpoint = checkpoint
        self.network = network
        self.load_seconds = load_seconds
        self._place: torch.device = network.device

    @property
    def device(self) -> str:
        return str(self._place)

    @property
    def dtype(self) -> str:
        return str(self.network.dtype).removeprefix("torch.")

    def stream(
        self,
        prompt: Prompt,
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        *,
        on_progress: OnProgress = no_progress,
    ) -> AnswerStream:
        """Return the answer to ``prompt``, generated while it is iterated; see
        ``Engine.stream``."""
        return generate(
            self.checkpoint,
            prompt,
            generation,
            device=self._place,
            encode=lambda: (self.encode(prompt.images, on_progress=on_progress), 0),
            decode=lambda rows: _Decoder(
                self.network, prompt, rows, self.checkpoint.image_token_id
            ),
            on_progress=on_progress,
        )

    def score(
        self, prompt: Prompt, answers: Sequence[str], *, with_end: bool = True
    ) -> list[float]:
        """Return the log-likelihood of each text as the answer to ``prompt``; see
        ``Engine.score``."""
        decoders: list[_Decoder] = []

        def read_prompt() -> "torch.Tensor":
            rows = self.encode(prompt.images)
            decoders.append(_Decoder(self.network, prompt, rows, self.checkpoint.image_token_id))
            return decoders[0].prefill()

        return log_probabilities(
            self.checkpoint,
            prompt,
            answers,
            with_end=with_end,
            read_prompt=read_prompt,
            read_answer=lambda token_ids: decoders[0].after_prompt(token_ids),
        )

    def encode(
        self, images: "Images", *, on_progress: OnProgress = no_progress
    ) -> "torch.Tensor | None":
        """Encode uint8 images [N, S, S, 3] to features for the decoder [N × tokens_per_image,
        hidden].

        None where there are no images.
        """
        import torch

        if not len(images):
            return None
        at_once = _FRAMES_PER_CHUNK[self._place.type]
        rows = []
        on_progress(Progress("encode", 0, len(images)))
        for start in range(0, len(images), at_once):
            chunk = images[start : start + at_once]
            with wrap_torch_errors(self.device, "encoding the frames"), torch.inference_mode():
                pixels = torch.from_numpy(chunk.copy()).to(self._place).permute(0, 3, 1, 2)
                # mean = std = 0.5, as in the processors of the whole family. uint8 never gives
                # exactly 0.0 here, which the network would drop as padding.
                pixels = ((pixels.float() - 127.5) / 127.5).to(self.network.dtype)
                features = self.network.model.get_image_features(pixels[None], return_dict=True)
                rows.append(torch.cat(tuple(features.pooler_output)))
                synchronize(self._place)
            on_progress(Progress("encode", start + len(chunk), len(images)))
        return torch.cat(rows)


class _Decoder:
    """Decoder state over one prompt: prefill once, then decode token by token."""

    def __init__(
        self, network: Any, prompt: Prompt, rows: "torch.Tensor | None", image_token_id: int
    ) -> None:
        self._network = network
        self._prompt = prompt
        self._rows = rows
        self._image_token_id = image_token_id
        self._cache: Any = None

    def prefill(self) -> "torch.Tensor":
        """Prefill the prompt; return the logits [vocabulary] of the next token."""
        import torch

        network = self._network
        with wrap_torch_errors(str(network.device), "reading the prompt"), torch.inference_mode():
            ids = torch.tensor([self._prompt.token_ids], device=network.device)
            vectors = network.get_input_embeddings()(ids)
            if self._rows is not None:
                vectors[ids == self._image_token_id] = self._rows.to(vectors.dtype)
                self._rows = None
            return self._forward(inputs_embeds=vectors)[-1]

    def decode(self, token_id: int) -> "torch.Tensor":
        """Append ``token_id``; return the logits [vocabulary] of the next token."""
        import torch

        network = self._network
        with wrap_torch_errors(str(network.device), "answering"), torch.inference_mode():
            return self._forward(input_ids=torch.tensor([[token_id]], device=network.device))[-1]

    def after_prompt(self, token_ids: Sequence[int]) -> "torch.Tensor":
        """Return the logits [L, vocabulary] after each of ``token_ids``; only the prompt stays in
        the cache."""
        import torch

        network = self._network
        with wrap_torch_errors(str(network.device), "scoring answers"), torch.inference_mode():
            ids = torch.tensor([list(token_ids)], device=network.device)
            logits = self._forward(last=len(token_ids), input_ids=ids)
            self._cache.crop(-len(token_ids))
        return logits

    def _forward(self, *, last: int = 1, **inputs: "torch.Tensor") -> "torch.Tensor":
        """Logits [L, vocabulary] of the ``last`` positions only: all would take 0.8 GB for 4,000
        tokens in float32."""
        output = self._network(
            **inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=last
        )
        self._cache = output.past_key_values
        logits: torch.Tensor = output.logits[0]
        return logits
