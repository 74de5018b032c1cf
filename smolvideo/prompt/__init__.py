"""Prompts: the layout, geometry and token budget of a conversation about frames."""

from smolvideo.models.registry import PromptFormat
from smolvideo.prompt.messages import (
    PLACEHOLDER_QUESTION,
    Geometry,
    Message,
    Prompt,
    PromptOptions,
    Role,
)
from smolvideo.prompt.pack import (
    answer_ids,
    answer_opening,
    check_budget,
    count_tokens,
    describe_budget,
    describe_max_images,
    has_too_many_images,
    max_frames_that_fit,
    pack_prompt,
)
from smolvideo.prompt.resize import frame_transform, image_transform
from smolvideo.prompt.templates import check_question, should_split_images

__all__ = [
    "PLACEHOLDER_QUESTION",
    "Geometry",
    "Message",
    "Prompt",
    "PromptFormat",
    "PromptOptions",
    "Role",
    "answer_ids",
    "answer_opening",
    "check_budget",
    "check_question",
    "count_tokens",
    "describe_budget",
    "describe_max_images",
    "frame_transform",
    "has_too_many_images",
    "image_transform",
    "max_frames_that_fit",
    "pack_prompt",
    "should_split_images",
]
