"""The engine ``transformers``: the networks of the transformers library, with our own loop.

It is the reference for other engines. ``generate`` of ``engines.generate`` does what the library's
method does, one step at a time, so that text can be shown, timed and stopped at every token; greedy
answers are equal.
"""

import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from smolvideo.answer import AnswerStream
from smolvideo.closing import ClosedOnExit
from smolvideo.engines.base import (
    GenerationOptions,
    OnToken,
    closed_error,
    describe_engine,
    release_memory,
)
from smolvideo.engines.devices import (
    LOADING,
    choose_device,
    choose_dtype,
    first_line,
    is_out_of_memory,
    set_num_threads,
    synchronize,
    wrap_torch_errors,
)
from smolvideo.engines.feature_cache import FeatureCache
from smolvideo.engines.generate import generate, log_probabilities
from smolvideo.errors import ModelError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.weights import (
    COMPUTED_WEIGHTS,
    check_tensors,
    format_weight_names,
    read_header,
)
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import torch

    from smolvideo.frames import Images


def load_network(
    checkpoint: Checkpoint,
    device: "torch.device",
    dtype: "torch.dtype",
    *,
    quantization_config: Any = None,
) -> Any:
    """Load the network of ``checkpoint`` on ``device``, in inference mode.

    ``quantization_config`` is transformers' own, of another library.

    Raises ModelError where weights are missing, left over, of another shape or unreadable, and
    where memory does not suffice.
    """
    config = NetworkConfig.from_json(read_json(checkpoint.folder / "config.json"))
    assert checkpoint.weights is not None
    headers = {file: read_header(file) for file in checkpoint.weights.files}
    check_tensors(checkpoint.folder, config, headers)
    with quiet_transformers(), wrap_torch_errors(str(device), LOADING):
        try:
            network, report = _network_class(checkpoint).from_pretrained(
                checkpoint.folder,
                config=_network_config(checkpoint, config),
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                attn_implementation="sdpa",
                quantization_config=quantization_config,
                ignore_mismatched_sizes=True,  # reported with the other faults
                output_loading_info=True,
            )
        # What transformers, huggingface_hub and safetensors raise has no common base.
        except Exception as error:
            if isinstance(error, MemoryError) or is_out_of_memory(error):
                raise
            raise ModelError(
                f"broken checkpoint: cannot load `{checkpoint.folder}`: {first_line(error)}"
            ) from error
        _check_complete(checkpoint, report)
        if checkpoint.adapter is not None:
            from smolvideo.network.adapter_weights import merge_into

            merge_into(network, checkpoint.weights, checkpoint.adapter)
        return network.eval().requires_grad_(False).to(device)


def _network_config(checkpoint: Checkpoint, config: NetworkConfig) -> Any:
    """Convert ``config`` for transformers: only keys that were checked, and no others of the file.

    Other keys make its classes allocate memory (``num_labels`` builds a table) or load other code.
    """
    from transformers import Idefics3Config, SmolVLMConfig

    vision, text = asdict(config.vision), asdict(config.text)
    rope_theta = text.pop("rope_theta")
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": rope_theta}
    shared = {
        "tie_word_embeddings": config.tie_word_embeddings,
        "pad_token_id": checkpoint.pad_token_id,
    }
    kind = Idefics3Config if checkpoint.model_type == "idefics3" else SmolVLMConfig
    return kind(
        vision_config=vision,
        text_config={"model_type": "llama", **shared, **text},
        scale_factor=config.scale_factor,
        image_token_id=checkpoint.image_token_id,
        **shared,
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence warnings, log lines and progress bars of transformers in the block."""
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


def _network_class(checkpoint: Checkpoint) -> Any:
    """Return the class itself, not an Auto class: those load processors that need torchvision."""
    try:
        if checkpoint.model_type == "idefics3":
            from transformers import Idefics3ForConditionalGeneration

            return Idefics3ForConditionalGeneration
        from transformers import SmolVLMForConditionalGeneration

        return SmolVLMForConditionalGeneration
    except (ImportError, RuntimeError) as error:
        # A torchvision that does not match torch makes transformers refuse every class of this
        # family.
        raise ModelError(
            f"transformers cannot load its `{checkpoint.model_type}` network: {first_line(error)}",
            hint="an installed torchvision that does not fit torch is the usual cause: "
            "`pip uninstall torchvision`",
        ) from error


def _check_complete(checkpoint: Checkpoint, report: Mapping[str, Any]) -> None:
    """Raise ModelError unless files and network have the same weights, of the same shapes."""
    faults = {
        "is missing": sorted(report["missing_keys"]),
        "has another shape than config.json says": sorted(
            mismatched[0] for mismatched in report["mismatched_keys"]
        ),
        "does not belong to this network": sorted(
            name for name in report["unexpected_keys"] if not name.endswith(COMPUTED_WEIGHTS)
        ),
    }
    reasons = "; ".join(
        f"{format_weight_names(names)} {fault}" for fault, names in faults.items() if names
    )
    if reasons or report.get("error_msgs"):
        reasons = reasons or str(report["error_msgs"][0]).split("\n")[0]
        raise ModelError(f"broken checkpoint `{checkpoint.folder}`: {reasons}")


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
    arithmetic: str = "auto",
    cache: FeatureCache | None = None,
    on_progress: OnProgress = no_progress,
) -> "TransformersEngine":
    """Load ``checkpoint``, ready to answer. Raises as ``load_engine`` does.

    Raises UsageError with a ``cache``, quantized weights or int8 arithmetic: a reference computes
    everything itself, from the weights as they are.
    """
    if quantize != "none":
        raise UsageError(
            f"the engine `transformers` does not know `--quantize {quantize}`",
            hint="run with `--engine native`, or leave `--quantize` out",
        )
    if arithmetic == "int8":
        raise UsageError(
            "the engine `transformers` has no int8 arithmetic",
            hint="run with `--engine native`, or leave `--arithmetic` out",
        )
    if cache is not None:
        raise UsageError("the engine `transformers` keeps no features in a cache")
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


class TransformersEngine(ClosedOnExit):
    """A network of transformers that answers one prompt at a time."""

    name = "transformers"
    quantize = "none"
    arithmetic = "float"

    def __init__(self, checkpoint: Checkpoint, network: Any, *, load_seconds: float = 0.0) -> None:
        self.checkpoint = checkpoint
        self.load_seconds = load_seconds
        self.dtype = str(network.dtype).removeprefix("torch.")
        self._loaded: Any = network
        self._place: torch.device = network.device
        self._lock = threading.RLock()

    @property
    def network(self) -> Any:
        """The network. Raises ModelError after ``close``."""
        if self._loaded is None:
            raise closed_error()
        return self._loaded

    def close(self) -> None:
        """Free the weights; see ``Engine.close``."""
        with self._lock:
            self._loaded = None
            release_memory(self._place)

    def __repr__(self) -> str:
        return describe_engine(self, closed=self._loaded is None)

    @property
    def device(self) -> str:
        return str(self._place)

    def stream(
        self,
        prompt: Prompt,
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        *,
        on_progress: OnProgress = no_progress,
        on_token: OnToken | None = None,
    ) -> AnswerStream:
        """Return the answer to ``prompt``, generated while it is iterated; see
        ``Engine.stream``."""
        if self._loaded is None:
            raise closed_error()
        return generate(
            self.checkpoint,
            prompt,
            generation,
            device=self._place,
            encode=lambda: (self.encode(prompt.images, on_progress=on_progress), 0),
            decode=lambda rows: _Decoder(self, prompt, rows),
            lock=self._lock,
            on_progress=on_progress,
            on_token=on_token,
        )

    def score(
        self, prompt: Prompt, answers: Sequence[str], *, with_end: bool = True
    ) -> list[float]:
        """Return the log-likelihood of each text as the answer to ``prompt``; see
        ``Engine.score``."""
        decoders: list[_Decoder] = []

        def read_prompt() -> "torch.Tensor":
            rows = self.encode(prompt.images)
            decoders.append(_Decoder(self, prompt, rows))
            return decoders[0].prefill()

        with self._lock:
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
        self, engine: TransformersEngine, prompt: Prompt, rows: "torch.Tensor | None"
    ) -> None:
        self._engine = engine
        self._prompt = prompt
        self._rows = rows
        self._cache: Any = None

    def prefill(self) -> "torch.Tensor":
        """Prefill the prompt; return the logits [vocabulary] of the next token."""
        import torch

        network = self._engine.network
        with wrap_torch_errors(str(network.device), "reading the prompt"), torch.inference_mode():
            ids = torch.tensor([self._prompt.token_ids], device=network.device)
            vectors = network.get_input_embeddings()(ids)
            if self._rows is not None:
                image_token_id = self._engine.checkpoint.image_token_id
                vectors[ids == image_token_id] = self._rows.to(vectors.dtype)
                self._rows = None
            return self._forward(inputs_embeds=vectors)[-1]

    def decode(self, token_ids: Sequence[int]) -> "torch.Tensor":
        """Append ``token_ids``; return the logits [vocabulary] of the next token."""
        import torch

        network = self._engine.network
        with wrap_torch_errors(str(network.device), "answering"), torch.inference_mode():
            return self._forward(input_ids=torch.tensor([[*token_ids]], device=network.device))[-1]

    def after_prompt(self, token_ids: Sequence[int]) -> "torch.Tensor":
        """Return the logits [L, vocabulary] after each of ``token_ids``; only the prompt stays in
        the cache."""
        import torch

        network = self._engine.network
        with wrap_torch_errors(str(network.device), "scoring answers"), torch.inference_mode():
            ids = torch.tensor([list(token_ids)], device=network.device)
            logits = self._forward(last=len(token_ids), input_ids=ids)
            self._cache.crop(-len(token_ids))
        return logits

    def _forward(self, *, last: int = 1, **inputs: "torch.Tensor") -> "torch.Tensor":
        """Logits [L, vocabulary] of the ``last`` positions only, float32: all would take 0.8 GB for
        4,000 tokens.

        The library computes them in the dtype of inference; here, as in its own ``generate``, they
        are converted afterwards.
        """
        output = self._engine.network(
            **inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=last
        )
        self._cache = output.past_key_values
        logits: torch.Tensor = output.logits[0].float()
        return logits
