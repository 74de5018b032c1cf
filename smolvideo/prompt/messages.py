"""What goes into a prompt, and the packed prompt that comes out."""

from dataclasses import dataclass
from typing import Literal, get_args

from smolvideo.errors import UsageError
from smolvideo.frames import FrameBatch, FramePlan, Images
from smolvideo.models.registry import LAYOUTS, PromptFormat

Geometry = Literal["official", "direct", "pad"]
"""How a frame becomes the square the model sees: as the checkpoint's own pipeline does it, squeezed
in one resize, or fitted whole with black bars."""

GEOMETRIES: tuple[Geometry, ...] = get_args(Geometry)

Media = FrameBatch | FramePlan
"""The frames of one source, decoded or only planned."""


@dataclass(frozen=True)
class Message:
    """One turn: texts and frames in the order in which the model reads them.

    All texts are taken as plain text; ``<image>`` in one is seven characters. ``preamble`` opens
    the turn in place of what the layout says there (SmolVLM v1's "Answer briefly."); empty, nothing
    does.
    """

    role: Literal["user", "assistant"]
    content: tuple[str | Media, ...]
    preamble: str | None = None


@dataclass(frozen=True)
class PromptOptions:
    """How to pack. None leaves the choice to the checkpoint.

    ``split_images`` cuts still pictures into tiles; by default a picture is cut where it is the
    only thing to look at, as it costs some thousand tokens. Raises UsageError for unknown names.
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
"""Everything as the checkpoint has it."""


@dataclass(frozen=True)
class Prompt:
    """What an engine reads: tokens, and the squares that stand behind the image tokens, in their
    order.

    ``images`` uint8 RGB ``[N, S, S, 3]`` with S the checkpoint's image size; N may be 0. ``text``
    is for people: special tokens by name, the tokens of an image as ``<image ×64>``.
    """

    token_ids: tuple[int, ...]
    images: Images
    text: str
    context_tokens: int
    layout: PromptFormat
    geometry: Geometry

    def __len__(self) -> int:
        return len(self.token_ids)

    def __repr__(self) -> str:
        return f"Prompt({len(self)} tokens, {len(self.images)} images, layout={self.layout!r})"
