"""Baseline OpenVINO: the same checkpoint, run by OpenVINO on the CPU."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolvideo.answer import AnswerStream
from smolvideo.bench.openvino_export import import_openvino
from smolvideo.bench.peer_dtype import peer_dtype
from smolvideo.engines import GenerationOptions
from smolvideo.engines.devices import set_num_threads
from smolvideo.engines.generate import generate
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import numpy as np
    import torch

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

    def __init__(self, checkpoint: Checkpoint, folder: Path, dtype: str) -> None:
        started = time.perf_counter()
        set_num_threads()
        import torch

        self.checkpoint = checkpoint
        self.dtype = peer_dtype(checkpoint, dtype)
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

    def decode(self, token_id: int) -> "torch.Tensor":
        return self._forward(self._engine.vectors([token_id]))

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
