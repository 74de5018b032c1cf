"""What torch says when a device fails, in words for a person."""

from collections.abc import Iterator
from contextlib import contextmanager

from smolvideo.errors import ModelError

LOADING = "loading the weights"
"""What an engine is ``action`` before there is a prompt."""

_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "failed to allocate",
)
"""CUDA and MPS say the first; the CPU's allocator says the others, depending on the system."""


@contextmanager
def wrap_torch_errors(device: str, action: str) -> Iterator[None]:
    """Turn torch's RuntimeErrors of the block into a ModelError that says what to do.

    ``action`` completes the sentence: "ran out of memory while …".
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or is_out_of_memory(error):
            raise out_of_memory(device, action) from error
        raise ModelError(f"`{device}` failed while {action}: {first_line(error)}") from error


def is_out_of_memory(error: Exception) -> bool:
    """True for each of the ways in which torch reports that memory is used up."""
    import torch

    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in text for word in _MEMORY_WORDS)
    )


def out_of_memory(device: str, action: str) -> ModelError:
    """The error to show where memory is used up."""
    hint = "take a smaller model"
    if action != LOADING:  # the weights take what they take, whatever is asked
        hint = f"ask for fewer frames (`--max-frames`), or {hint}"
    if not device.startswith("cpu"):
        hint += ", or run with `--device cpu`"
    return ModelError(f"`{device}` ran out of memory while {action}", hint=hint)


def first_line(error: BaseException) -> str:
    """What an error of another library says, without the pages that some of them add."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if lines[0].endswith(":") and len(lines) > 1:
        return f"{lines[0]} {lines[1].strip()}"
    return lines[0]
