"""Baseline llama.cpp: the same checkpoint, run by llama.cpp on the CPU.

Frames go through its ``libmtmd`` and the prompt through ``llama_decode``, chunk by chunk as in its
own programs: text as tokens, frames as embeddings.
"""

import ctypes
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from smolvideo.answer import AnswerStream
from smolvideo.bench.llama_cpp_export import import_llama_cpp
from smolvideo.engines import GenerationOptions
from smolvideo.engines.devices import available_cores, cpu_dtype
from smolvideo.engines.generate import generate
from smolvideo.errors import ModelError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import numpy as np
    import torch

_LOG_ERROR = 4
"""llama.cpp's log level of errors."""
_BATCH = 2048
"""Maximum tokens per call, as in llama.cpp's own programs."""


_last_errors = deque(["it says nothing"], maxlen=1)


@cache
def _listen_to(llama: Any, mtmd: Any) -> object:
    """Silence llama.cpp's log, but remember its last error; the callback must live as long as the
    process."""

    def listen(level: int, text: bytes, _: object) -> None:
        if level == _LOG_ERROR and text.strip():
            _last_errors.append(text.decode(errors="replace").strip())

    listener = llama.llama_log_callback(listen)
    llama.llama_log_set(listener, ctypes.c_void_p(0))
    mtmd.mtmd_log_set(listener, ctypes.c_void_p(0))
    return listener


class LlamaCppEngine:
    """Engine over the files of ``llama_cpp_export``; answers one prompt at a time.

    Raises UsageError where llama.cpp is not installed, ModelError where it cannot read the files.
    """

    name = "llama.cpp"
    device = "cpu"
    quantize = "none"
    arithmetic = "float"

    def __init__(self, checkpoint: Checkpoint, folder: Path, dtype: str) -> None:
        started = time.perf_counter()
        self.checkpoint = checkpoint
        self.dtype = cpu_dtype(checkpoint, dtype)
        self.llama = import_llama_cpp()
        from llama_cpp import mtmd_cpp

        self._mtmd = mtmd_cpp
        _listen_to(self.llama, mtmd_cpp)
        self.llama.llama_backend_init()
        of_model = self.llama.llama_model_default_params()
        of_model.n_gpu_layers = 0
        model = str(folder / "model.gguf").encode()
        self._model = self.llama.llama_model_load_from_file(model, of_model)
        of_tower = mtmd_cpp.mtmd_context_params_default()
        of_tower.use_gpu = False
        of_tower.print_timings = False
        of_tower.n_threads = available_cores()
        tower = str(folder / "mmproj.gguf").encode()
        self._tower = self._model and mtmd_cpp.mtmd_init_from_file(tower, self._model, of_tower)
        if not self._tower:
            self.fail(f"read its files of `{checkpoint.name}`")
        self.width = self.llama.llama_model_n_embd(self._model)
        vocabulary = self.llama.llama_model_get_vocab(self._model)
        self.vocabulary_size = self.llama.llama_vocab_n_tokens(vocabulary)
        self.load_seconds = time.perf_counter() - started

    @property
    def system_features(self) -> str:
        """Instruction sets of the libraries that llama.cpp loaded: no variable caps them."""
        features = self.llama.llama_print_system_info().decode(errors="replace")
        return f"not capped: {features.strip(' |')}"

    def fail(self, what: str) -> NoReturn:
        """Raise ModelError with llama.cpp's last error."""
        raise ModelError(f"llama.cpp cannot {what}: {_last_errors[-1]}")

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

        room = len(prompt.token_ids) + generation.max_new_tokens
        return generate(
            self.checkpoint,
            prompt,
            generation,
            device=torch.device("cpu"),
            encode=lambda: ([self._encode(image) for image in prompt.images], 0),
            decode=lambda rows: _Decoding(self, prompt, rows, room),
            on_progress=on_progress,
        )

    def _encode(self, image: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Encode one image [S, S, 3] to features [tokens_per_image, hidden]."""
        import numpy as np

        mtmd = self._mtmd
        with self._image_chunk(image) as chunk:
            if mtmd.mtmd_encode_chunk(self._tower, chunk):
                self.fail("encode a frame")
            shape = (mtmd.mtmd_input_chunk_get_n_tokens(chunk), self.width)
            rows = mtmd.mtmd_get_output_embd(self._tower)
            return np.ctypeslib.as_array(rows, shape).copy()

    @contextmanager
    def _image_chunk(self, image: "np.ndarray[Any, Any]") -> Iterator[Any]:
        """Prepare an image for the vision tower.

        llama.cpp makes two squares of it, one tile and the whole, which are the same: one is used.
        """
        mtmd = self._mtmd
        height, width, _ = image.shape
        pixels = image.tobytes()
        data = (ctypes.c_uint8 * len(pixels)).from_buffer_copy(pixels)
        bitmap = mtmd.mtmd_bitmap_init(width, height, data)
        chunks = mtmd.mtmd_input_chunks_init()
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text(marker, len(marker), False, True)
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        try:
            if mtmd.mtmd_tokenize(self._tower, chunks, ctypes.byref(text), bitmaps, 1):
                self.fail("prepare a frame")
            parts = [
                mtmd.mtmd_input_chunks_get(chunks, number)
                for number in range(mtmd.mtmd_input_chunks_size(chunks))
            ]
            kind = mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE
            yield next(part for part in parts if mtmd.mtmd_input_chunk_get_type(part) == kind)
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)

    def new_context(self, room: int) -> Any:
        """Allocate an empty KV cache for ``room`` tokens."""
        options = self.llama.llama_context_default_params()
        options.n_ctx = room
        options.n_batch = _BATCH
        options.n_threads = options.n_threads_batch = available_cores()
        context = self.llama.llama_init_from_model(self._model, options)
        if not context:
            self.fail(f"make room for {room} tokens")
        return context


class _Decoding:
    """Decoder state over one prompt; see ``generate.DecoderState``."""

    def __init__(
        self,
        engine: LlamaCppEngine,
        prompt: Prompt,
        rows: "list[np.ndarray[Any, Any]]",
        room: int,
    ) -> None:
        self._engine = engine
        self._llama = engine.llama
        self._prompt = prompt
        self._rows = rows
        self._context = engine.new_context(room)
        self._past = 0

    def __del__(self) -> None:
        self._llama.llama_free(self._context)

    def prefill(self) -> "torch.Tensor":
        image = self._engine.checkpoint.image_token_id
        frames = iter(self._rows)
        for is_image, part in groupby(self._prompt.token_ids, lambda token: token == image):
            tokens = list(part)
            while is_image and tokens:
                rows = next(frames)
                self._decode(rows=rows)
                del tokens[: len(rows)]
            for start in range(0, len(tokens), _BATCH):
                self._decode(tokens=tokens[start : start + _BATCH])
        return self._scores()

    def decode(self, token_ids: Sequence[int]) -> "torch.Tensor":
        self._decode(tokens=[*token_ids])
        return self._scores()

    def _decode(
        self, tokens: list[int] | None = None, rows: "np.ndarray[Any, Any] | None" = None
    ) -> None:
        """Append tokens, or the features of a frame; llama.cpp computes the logits after the
        last."""
        length = len(tokens or ()) if rows is None else len(rows)
        batch = self._llama.llama_batch_init(length, 0 if rows is None else rows.shape[1], 1)
        try:
            batch.n_tokens = length
            if rows is not None:
                ctypes.memmove(batch.embd, rows.ctypes.data, rows.nbytes)
            for place in range(length):
                if tokens is not None:
                    batch.token[place] = tokens[place]
                batch.pos[place] = self._past + place
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = 0
                batch.logits[place] = place == length - 1
            if self._llama.llama_decode(self._context, batch):
                self._engine.fail("read the prompt")
        finally:
            self._llama.llama_batch_free(batch)
        self._past += length

    def _scores(self) -> "torch.Tensor":
        import numpy as np
        import torch

        scores = self._llama.llama_get_logits_ith(self._context, -1)
        shape = (self._engine.vocabulary_size,)
        return torch.from_numpy(np.ctypeslib.as_array(scores, shape).copy())
