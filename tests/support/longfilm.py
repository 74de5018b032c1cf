"""A long film with known chapters, made of scenes of the drawn world.

Low frame rate and small frames: an hour is encoded in some ten seconds.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random

import av

from smolvideo.frames import SYNTHETIC_COMMENT
from smolvideo.train.world.questions import describe
from smolvideo.train.world.render import render_frame
from smolvideo.train.world.scene import Scene
from smolvideo.train.world.scene_sampler import sample_scene

WIDTH, HEIGHT = 160, 120
_TICKS = 1000


@dataclass(frozen=True)
class TrueChapter:
    """A scene of the film: start, end and contents."""

    start_seconds: float
    end_seconds: float
    scene: Scene

    @property
    def text(self) -> str:
        return describe(self.scene)


def plan_film(
    seconds: float, random: Random, *, shortest: float, longest: float
) -> list[TrueChapter]:
    """Return scenes of random lengths that fill ``seconds``; neighbours differ in their objects."""
    chapters: list[TrueChapter] = []
    start = 0.0
    while start < seconds:
        length = random.uniform(shortest, longest)
        end = seconds if seconds - start - length < shortest else start + length
        scene = sample_scene(random)
        changes = scene.in_sequence or scene.event is not None
        if changes or (chapters and describe(scene) == chapters[-1].text):
            continue
        chapters.append(TrueChapter(start, end, scene))
        start = end
    return chapters


def write_film(path: Path, chapters: list[TrueChapter], *, fps: float = 2.0) -> Path:
    """Encode the scenes as one H.264 film; each scene begins exactly at its time."""
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = SYNTHETIC_COMMENT
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.options = {"preset": "veryfast", "crf": "26", "threads": "1", "bf": "0"}
        for chapter in chapters:
            length = chapter.end_seconds - chapter.start_seconds
            for number in range(max(1, int(length * fps))):
                picture = render_frame(chapter.scene, number / fps / length, WIDTH, HEIGHT)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.time_base = Fraction(1, _TICKS)
                frame.pts = round((chapter.start_seconds + number / fps) * _TICKS)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
