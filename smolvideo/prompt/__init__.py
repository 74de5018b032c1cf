"""Prompts: the layout, geometry and token budget of a conversation about frames."""

from smolvideo.models.registry import Layout
from smolvideo.prompt.answers import answer_ids
from smolvideo.prompt.budget import check_budget, count_tokens, frames_that_fit, room_left
from smolvideo.prompt.geometry import frame_fitter, picture_fitter
from smolvideo.prompt.layouts import splits_pictures
from smolvideo.prompt.messages import Geometry, Message, Prompt, PromptOptions
from smolvideo.prompt.packing import pack_prompt

__all__ = [
    "Geometry",
    "Layout",
    "Message",
    "Prompt",
    "PromptOptions",
    "answer_ids",
    "check_budget",
    "count_tokens",
    "frame_fitter",
    "frames_that_fit",
    "pack_prompt",
    "picture_fitter",
    "room_left",
    "splits_pictures",
]
