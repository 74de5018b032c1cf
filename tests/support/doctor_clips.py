"""Generator of the clips of ``smolvideo doctor``.

``python tests/support/doctor_clips.py smolvideo/doctor/clips`` writes them; other encoder versions
write other bytes for the same frames.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.clipmaker import CLOCKWISE, evenly, set_display_matrix, tear, write_clip

from smolvideo.doctor.decoding import FRAMES, FRAMES_PER_SECOND, UNEVEN_TIMES, drawn_frame
from smolvideo.train.samples import SAMPLES
from smolvideo.train.world.render import EncodingOptions, write_video

_QUIET = {"crf": "24", "preset": "medium", "x264-params": "info=0:keyint=99"}


def write_clips(folder: Path) -> None:
    """Write all clips into ``folder``: twelve drawn frames each, a few kilobytes."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [drawn_frame(number) for number in range(FRAMES)]
    times = evenly(FRAMES, FRAMES_PER_SECOND)

    def write(name, times=times, images=images, **how):  # type: ignore[no-untyped-def]
        path = folder / f"{name}.mp4"
        how.setdefault("container_options", {"movflags": "+faststart"})
        write_clip(path, times, images=images, gop=6, **how)
        return path

    write("h264")
    hevc = {"x265-params": "log-level=none:info=0:keyint=6", "crf": "20"}
    write("hevc-10bit", codec="libx265", pixel_format="yuv420p10le", options=hevc)
    write("vp9", codec="libvpx-vp9", options={"crf": "20", "b": "0"})
    write("av1", codec="libsvtav1", options={"crf": "24", "preset": "8"})
    write("variable-rate", times=UNEVEN_TIMES)
    turned = [np.rot90(image).copy() for image in images]
    set_display_matrix(write("rotated", images=turned), CLOCKWISE)
    whole = write("whole", b_frames=0)
    tear(whole, folder / "broken.mp4", 0.75, 0.9)
    whole.unlink()
    (scene,) = (sample.scene for sample in SAMPLES if sample.name == "circle_right")
    write_video(scene, EncodingOptions(240, 180, fps=8, seconds=4), folder / "nano.mp4")


if __name__ == "__main__":
    write_clips(Path(sys.argv[1]))
