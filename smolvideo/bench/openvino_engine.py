"""Baseline OpenVINO: the same checkpoint, exported and run by OpenVINO on the CPU.

``python -m smolvideo.bench.openvino_engine CHECKPOINT FOLDER DTYPE`` writes them.

The networks are those of transformers. The decoder keeps keys and values as OpenVINO states, which
its CPU plugin fuses with the attention, as the exporters of optimum-intel do.
"""

import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolvideo.answer import AnswerStream
from smolvideo.engines import GenerationOptions
from smolvideo.engines.devices import cpu_dtype, set_num_threads
from smolvideo.engines.generate import generate
from smolvideo.engines.transformers import load_network
from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import numpy as np
    import torch


_TRACED_PAST, _TRACED_TOKENS = 2, 3
"""Sizes of the traced example; other lengths of either need no other graph."""


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry: nothing here reports what runs on this machine.

    Raises UsageError where it is not installed.
    """
    # Its converter has a stub for a missing package, and reports every conversion otherwise.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise UsageError(
            "OpenVINO is not installed", hint="pip install 'smolvideo[openvino]'"
        ) from error
    return openvino


def export_openvino(checkpoint: str, folder: Path, dtype: str) -> None:
    """Write ``tower``, ``words`` and ``decoder`` (.xml and .bin) of ``checkpoint`` to ``folder``.

    Weights are written in float16 unless inference is in float32; loading converts them to the
    dtype of inference. Raises as ``load_network`` and ``cpu_dtype`` do.
    """
    import torch

    openvino = import_openvino()
    opened = open_checkpoint(checkpoint, offline=True)
    computes_in = cpu_dtype(opened, dtype)
    network = load_network(opened, torch.device("cpu"), torch.float32)
    # example inputs for the tracer
    size = opened.image_size
    config = network.config.text_config
    heads = config.num_key_value_heads
    width = network.model.text_model.layers[0].self_attn.head_dim
    past = torch.zeros(1, heads, _TRACED_PAST, width)
    decoder_example = (
        torch.zeros(1, _TRACED_TOKENS, config.hidden_size),
        torch.arange(_TRACED_TOKENS)[None],
        torch.zeros(1, 1, _TRACED_TOKENS, _TRACED_PAST + _TRACED_TOKENS),
        *[past] * (2 * config.num_hidden_layers),
    )
    # the three networks
    parts = {
        "tower": (_tower(network), torch.zeros(1, 3, size, size)),
        "words": (network.get_input_embeddings(), torch.zeros(1, 1, dtype=torch.long)),
        "decoder": (_decoder(network), decoder_example),
    }
    # trace, convert and write each
    folder.mkdir(parents=True, exist_ok=True)
    for name, (module, example) in parts.items():
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of sizes that are fixed on purpose
            model = openvino.convert_model(module.eval(), example_input=example)
        if name == "tower":
            model.reshape([1, 3, size, size])
        if name == "decoder":
            _keep_states(model, heads)
        half = computes_in != "float32"
        openvino.save_model(model, folder / f"{name}.xml", compress_to_fp16=half)


def _tower(network: Any) -> Any:
    import torch

    class Tower(torch.nn.Module):
        """Pixels [1, 3, S, S] to features [1, tokens_per_image, hidden]."""

        def __init__(self) -> None:
            super().__init__()
            self.vision_model = network.model.vision_model
            self.connector = network.model.connector

        def forward(self, pixels: torch.Tensor) -> Any:
            seen = self.vision_model(pixel_values=pixels, return_dict=True)
            return self.connector(seen.last_hidden_state)

    return Tower()


def _decoder(network: Any) -> Any:
    import torch

    class Grown:
        """KV cache as a layer of transformers uses it, which only ever calls ``update``."""

        def __init__(self, past: tuple[torch.Tensor, ...]) -> None:
            self.tensors = list(past)

        def update(
            self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            for place, new in ((2 * layer, keys), (2 * layer + 1, values)):
                self.tensors[place] = torch.cat([self.tensors[place], new], dim=2)
            return self.tensors[2 * layer], self.tensors[2 * layer + 1]

    class Decoder(torch.nn.Module):
        """Decode embeddings [1, L, hidden] at positions [1, L], with an additive attention mask [1,
        1, L, P + L] and the past [1, heads, P, width] of each layer's keys and values, to the
        logits of the last token [1, 1, vocabulary] and the extended past."""

        def __init__(self) -> None:
            super().__init__()
            self.text_model = network.model.text_model
            self.head = network.lm_head

        def forward(
            self,
            vectors: torch.Tensor,
            positions: torch.Tensor,
            mask: torch.Tensor,
            *past: torch.Tensor,
        ) -> tuple[torch.Tensor, ...]:
            grown = Grown(past)
            turns = self.text_model.rotary_emb(vectors, position_ids=positions)
            for layer in self.text_model.layers:
                vectors = layer(
                    vectors,
                    attention_mask=mask,
                    position_embeddings=turns,
                    position_ids=positions,
                    past_key_values=grown,
                    use_cache=True,
                )
            return self.head(self.text_model.norm(vectors[:, -1:])), *grown.tensors

    return Decoder()


def _keep_states(model: Any, heads: int) -> None:
    """Convert past inputs and extended outputs of ``model`` to internal states, empty at first.

    Each goes through a ``Gather`` by ``beam_idx``: the pattern that the CPU plugin fuses.
    """
    import numpy as np

    openvino = import_openvino()
    from openvino import opset13
    from openvino._offline_transformations import apply_make_stateful_transformation

    # batch index of the states
    beams = opset13.parameter([1], openvino.Type.i32, name="beam_idx")
    beams.output(0).get_tensor().add_names({"beam_idx"})
    past, grown = model.inputs[3:], model.outputs[1:]
    model.add_parameters([beams])
    names = {}
    # gather each past input, and name both ends of the state
    for number, (before, after) in enumerate(zip(past, grown, strict=True)):
        shape = before.get_partial_shape()
        shape[0], shape[1] = 1, heads
        before.get_node().set_partial_shape(shape)
        users = before.get_target_inputs()
        chosen = opset13.gather(before, beams, opset13.constant(0))
        for user in users:
            user.replace_source_output(chosen.output(0))
        before.get_tensor().set_names({f"past.{number}"})
        after.get_tensor().set_names({f"grown.{number}"})
        names[f"past.{number}"] = f"grown.{number}"
    # make them states
    model.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(model, names)
    # initial value: empty
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            empty = [length.get_min_length() for length in node.get_output_partial_shape(0)]
            zero = opset13.constant(0.0, dtype=node.get_output_element_type(0))
            shape = opset13.constant(np.array(empty, dtype=np.int64))
            node.set_arguments([opset13.broadcast(zero, shape).output(0)])
    model.validate_nodes_and_infer_types()


_HINTS = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}
_HIDDEN = -1e9
"""Attention mask value of tokens that must not be attended to."""


class OpenVinoEngine:
    """Engine over the files of ``openvino_export``; answers one prompt at a time.

    Raises UsageError where OpenVINO is not installed.
    """

    name = "openvino"
    device = "cpu"
    quantize = "none"
    arithmetic = "float"

    def __init__(self, checkpoint: Checkpoint, folder: Path, dtype: str) -> None:
        started = time.perf_counter()
        set_num_threads()
        import torch

        self.checkpoint = checkpoint
        self.dtype = cpu_dtype(checkpoint, dtype)
        core = import_openvino().Core()
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.dtype],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._tower, self._words, self._decoder = (
            core.compile_model(folder / f"{part}.xml", "CPU", options)
            for part in ("tower", "words", "decoder")
        )
        self.load_seconds = time.perf_counter() - started

    @property
    def compiled_models(self) -> tuple[Any, ...]:
        """Vision tower and decoder, as OpenVINO compiled them."""
        return self._tower, self._decoder

    def stream(
        self,
        prompt: Prompt,
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        *,
        on_progress: OnProgress = no_progress,
    ) -> AnswerStream:
        """Return the answer to ``prompt``, generated while it is iterated; see
        ``Engine.stream``."""
        import torch

        return generate(
            self.checkpoint,
            prompt,
            generation,
            device=torch.device("cpu"),
            encode=lambda: (self._encode(prompt), 0),
            decode=lambda rows: _Decoding(self, prompt, rows),
            on_progress=on_progress,
        )

    def _encode(self, prompt: Prompt) -> "np.ndarray[Any, Any] | None":
        """Encode the images to features [N × tokens_per_image, hidden]; None where there are no
        images."""
        import numpy as np

        if not len(prompt.images):
            return None
        rows = []
        for image in prompt.images:
            pixels = (image.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 127.5
            rows.append(self._tower(pixels)[0][0].copy())
        return np.concatenate(rows)

    def vectors(self, token_ids: list[int]) -> "np.ndarray[Any, Any]":
        """Embed tokens, [1, L, hidden]."""
        import numpy as np

        found: np.ndarray[Any, Any] = self._words(np.array([token_ids]))[0]
        return found.copy()

    def new_request(self) -> Any:
        """Create an inference request of the decoder, with empty KV states."""
        request = self._decoder.create_infer_request()
        request.reset_state()
        return request


class _Decoding:
    """Decoder state over one prompt; see ``generate.DecoderState``."""

    def __init__(
        self, engine: OpenVinoEngine, prompt: Prompt, rows: "np.ndarray[Any, Any] | None"
    ) -> None:
        self._engine = engine
        self._prompt = prompt
        self._rows = rows
        self._request = engine.new_request()
        self._past = 0

    def prefill(self) -> "torch.Tensor":
        import numpy as np

        token_ids = list(self._prompt.token_ids)
        vectors = self._engine.vectors(token_ids)
        if self._rows is not None:
            places = np.array(token_ids) == self._engine.checkpoint.image_token_id
            vectors[0, places] = self._rows
            self._rows = None
        return self._forward(vectors)

    def decode(self, token_ids: Sequence[int]) -> "torch.Tensor":
        return self._forward(self._engine.vectors([*token_ids]))

    def _forward(self, vectors: "np.ndarray[Any, Any]") -> "torch.Tensor":
        import numpy as np
        import torch

        positions = np.arange(self._past, self._past + vectors.shape[1])
        self._past = int(positions[-1]) + 1
        hidden = np.arange(self._past)[None] > positions[:, None]
        mask = np.where(hidden, np.float32(_HIDDEN), np.float32(0))[None, None]
        beams = np.zeros(1, np.int32)
        scores = self._request.infer([vectors, positions[None], mask, beams])[0]
        return torch.from_numpy(scores[0, -1].copy())


if __name__ == "__main__":
    export_openvino(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
