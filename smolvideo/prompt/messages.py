"""Data types of prompts: messages, options, and the packed prompt."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from smolvideo.errors import UsageError
from smolvideo.frames import FrameBatch, FramePlan, Images
from smolvideo.models.registry import LAYOUTS, PromptFormat

Geometry = Literal["official", "direct", "pad"]
"""How a frame is resized to the model's square input: as by the checkpoint's own pipeline, in one
resize that ignores the aspect ratio, or letterboxed."""

GEOMETRIES: tuple[Geometry, ...] = get_args(Geometry)

Role = Literal["system", "user", "assistant"]
"""Whose turn it is. The family's chat template writes any role; ``system`` is for instructions
that precede the conversation."""

ROLES: tuple[Role, ...] = get_args(Role)

Media = FrameBatch | FramePlan
"""The frames of one source, decoded or planned."""

PLACEHOLDER_QUESTION = "What happens in this video?"
"""Question of typical length for token counts and prefill before the user has typed one."""


@dataclass(frozen=True)
class Message:
    """One turn: texts and frames in the order in which the model gets them.

    Texts are never parsed for special tokens; ``<image>`` in one is seven characters. ``preamble``
    replaces the layout's opening of the turn (SmolVLM v1's "Answer briefly."); an empty string
    omits it.
    """

    role: Role
    content: tuple[str | Media, ...]
    preamble: str | None = None


@dataclass(frozen=True)
class PromptOptions:
    """Options of packing; None leaves the choice to the checkpoint.

    ``split_images`` splits still images into tiles, at a cost of some thousand tokens; by default
    only a single image without other media is split. Raises UsageError for unknown names.
    """

    layout: PromptFormat | None = None
    geometry: Geometry | None = None
    split_images: bool | None = None

    def __post_init__(self) -> None:
        if self.layout not in (None, *LAYOUTS):
            raise UsageError(f"unknown layout `{self.layout}`", hint=f"one of {', '.join(LAYOUTS)}")
        if self.geometry not in (None, *GEOMETRIES):
            raise UsageError(
                f"unknown geometry `{self.geometry}`", hint=f"one of {', '.join(GEOMETRIES)}"
            )


DEFAULT_OPTIONS = PromptOptions()
"""The checkpoint's own choices."""


@dataclass(frozen=True)
class Prompt:
    """A packed prompt, the input of an engine: tokens, and the images of the image tokens in order.

    ``images`` uint8 RGB ``[N, S, S, 3]`` with S the checkpoint's image size; N may be 0. ``text``
    is for display: special tokens by name, the tokens of an image as ``<image ×64>``. ``messages``
    are what was packed, for engines that send it elsewhere; empty for tokens made otherwise.
    """

    token_ids: tuple[int, ...]
    images: Images
    text: str
    context_tokens: int
    layout: PromptFormat
    geometry: Geometry
    messages: tuple[Message, ...] = field(default=(), compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.token_ids)

    def __repr__(self) -> str:
        return f"Prompt({len(self)} tokens, {len(self.images)} images, layout={self.layout!r})"
