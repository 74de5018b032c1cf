"""Builders of frames and messages for tests of prompts."""

import numpy as np

from smolvideo.frames import FrameBatch, FramePlan, MediaKind, VideoMetadata
from smolvideo.prompt import Message

V1_2B, V1_BASE, V1_256M = "SmolVLM-Instruct", "SmolVLM-Base", "SmolVLM-256M-Instruct"
V2_2B, V2_500M = "SmolVLM2-2.2B-Instruct", "SmolVLM2-500M-Video-Instruct"
V2_256M = "SmolVLM2-256M-Video-Instruct"


def planned(
    *pts_seconds: float,
    duration: float = 0.0,
    kind: MediaKind = "video",
    size: tuple[int, int] = (360, 640),
) -> FramePlan:
    height, width = size
    metadata = VideoMetadata(width, height, duration, kind=kind, name="clip.mp4")
    return FramePlan(pts_seconds, metadata)


def decoded(plan: FramePlan) -> FrameBatch:
    shape = (len(plan), plan.metadata.height, plan.metadata.width, 3)
    return FrameBatch(np.zeros(shape, np.uint8), plan.pts_seconds, plan.metadata)


def asked(*content: str | FrameBatch | FramePlan) -> list[Message]:
    return [Message("user", content)]
