"""Convert torch's errors of devices and memory to ModelErrors with hints."""

from collections.abc import Iterator
from contextlib import contextmanager

from smolvideo.errors import ModelError

LOADING = "loading the weights"
"""The ``action`` of an engine before there is a prompt."""

_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "failed to allocate",
)
"""CUDA and MPS report the first; the CPU's allocator reports the others, depending on the
system."""


@contextmanager
def wrap_torch_errors(device: str, action: str) -> Iterator[None]:
    """Convert torch's RuntimeErrors in the block to a ModelError with a hint.

    ``action`` completes the sentence: "ran out of memory while …".
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or is_out_of_memory(error):
            raise out_of_memory(device, action) from error
        raise ModelError(f"`{device}` failed while {action}: {first_line(error)}") from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error is one of those by which torch reports exhausted memory."""
    import torch

    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in text for word in _MEMORY_WORDS)
    )


def out_of_memory(device: str, action: str) -> ModelError:
    """Make the error for exhausted memory."""
    hint = "take a smaller model"
    if action != LOADING:  # weights take the same memory for every question
        hint = f"ask for fewer frames (`--max-frames`), or {hint}"
    if not device.startswith("cpu"):
        hint += ", or run with `--device cpu`"
    return ModelError(f"`{device}` ran out of memory while {action}", hint=hint)


def first_line(error: BaseException) -> str:
    """Return the first informative line of another library's error, without the pages that some of
    them add."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if lines[0].endswith(":") and len(lines) > 1:
        return f"{lines[0]} {lines[1].strip()}"
    return lines[0]
