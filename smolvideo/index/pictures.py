"""A picture of a hit: the frame in its middle, as a player shows it."""

from pathlib import Path

from smolvideo.errors import SmolVideoError
from smolvideo.frames import Images
from smolvideo.index.hits import Hit
from smolvideo.pipeline import load_frames


def picture_of(hit: Hit, *, reader: str = "auto", max_side: int = 480) -> Images | None:
    """Return the frame ``[H, W, 3]`` in the middle of the hit, of those that were looked at if
    there are any; None where it cannot be decoded."""
    middle = (hit.start_seconds + hit.end_seconds) / 2
    inside = [t for t in hit.frame_times if hit.start_seconds <= t <= hit.end_seconds]
    time = min(inside, key=lambda one: abs(one - middle), default=middle)
    try:
        batch = load_frames(Path(hit.path), reader=reader, times=[time], longest=max_side)
    except (SmolVideoError, ValueError):
        return None
    picture: Images = batch.images[0]
    return picture
