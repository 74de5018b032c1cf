"""Images, animations, and folders of frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import clipmaker

from smolvideo.errors import ReaderError
from smolvideo.media_types import natural_order
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, sample_frames


def test_image_is_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(clipmaker.numbered_image(77)).save(path)
    with open_video(path, kind="image") as picture:
        assert picture.metadata.kind == "image"
        assert picture.frame_times() == [0.0]
        (frame,) = picture.frames_at([0.0])
    assert clipmaker.number_of(frame.image) == 77


def test_exif_orientation_and_alpha_are_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    turned = tmp_path / "turned.jpg"
    Image.fromarray(clipmaker.numbered_image(5)).save(turned, exif=exif, quality=95)
    with open_video(turned, kind="image") as picture:
        assert (picture.metadata.width, picture.metadata.height) == (96, 128)
        (frame,) = picture.frames_at([0.0])
    assert clipmaker.number_of(np.rot90(frame.image)) == 5

    clear = tmp_path / "clear.png"
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(clear)
    with open_video(clear, kind="image") as picture:
        (frame,) = picture.frames_at([0.0])
    assert (frame.image == 255).all()


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16)).save(path)
    with open_video(path, kind="image") as picture:
        (frame,) = picture.frames_at([0.0])
    assert (frame.image == 128).all()


@pytest.mark.parametrize(
    ("suffix", "kind"), [("gif", "video"), ("gif", "image"), ("webp", "video"), ("webp", "image")]
)
def test_animations_are_videos(suffix: str, kind: str, tmp_path: Path) -> None:
    pages = [Image.fromarray(clipmaker.numbered_image(number)) for number in range(4)]
    path = tmp_path / f"a.{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=[100, 300, 100, 200])
    with open_video(path, kind=kind) as video:  # type: ignore[arg-type]
        assert video.metadata.kind == "video"
        assert video.frame_times() == pytest.approx([0.0, 0.1, 0.4, 0.5])
        numbers = [clipmaker.number_of(f.image) for f in video.frames_at([0.05, 0.39, 0.45, 9.0])]
    assert numbers == [0, 1, 2, 3]


def test_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    for number in (10, 9, 2, 1):
        Image.fromarray(clipmaker.numbered_image(number)).save(tmp_path / f"frame{number}.png")
    wide = Image.fromarray(clipmaker.numbered_image(11)).resize((256, 96))
    wide.save(tmp_path / "frame11.png")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture")
    with open_video(tmp_path, kind="frames") as frames:
        assert frames.metadata.kind == "frames"
        assert frames.frame_times() == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert frames.metadata.duration_seconds == 5.0
        images = [frame.image for frame in frames.frames_at(frames.frame_times())]
    assert [clipmaker.number_of(image) for image in images[:4]] == [1, 2, 9, 10]
    assert images[4].shape == images[0].shape
    assert images[4][:20].max() == 0, "a wider picture is letterboxed"


def test_damaged_image_in_a_folder_is_skipped(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(clipmaker.numbered_image(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"not a picture")
    with open_video(tmp_path, kind="frames") as frames:
        found = [frame.pts_seconds for frame in frames.frames_at([0.0, 1.0, 2.0])]
    assert found == [0.0, 2.0]


def test_damaged_first_image_keeps_the_others(tmp_path: Path) -> None:
    for number in (1, 2):
        Image.fromarray(clipmaker.numbered_image(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "0.png").write_bytes(b"not a picture")
    with open_video(tmp_path, kind="frames") as frames:
        batch = sample_frames(frames, FrameSampling(start_seconds=0.0))
    assert batch.pts_seconds == (1.0, 2.0)
    assert [clipmaker.number_of(image) for image in batch.images] == [1, 2]
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.raises(ReaderError, match="can be read"):
        open_video(tmp_path, kind="frames")


@pytest.mark.parametrize("width", [14_000, 20_000], ids=["our limit", "Pillow's limit"])
def test_huge_image_is_an_error(width: int, tmp_path: Path) -> None:
    Image.new("1", (width, 10_000)).save(tmp_path / "huge.png")
    with pytest.raises(ReaderError, match="134 million"):
        open_video(tmp_path / "huge.png", kind="image")


def test_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smolvideo.readers import images

    read: list[Path] = []

    def counting(path: Path, *how: Any) -> Any:
        read.append(path)
        return original(path, *how)

    original = images._read_picture
    monkeypatch.setattr(images, "_read_picture", counting)
    Image.fromarray(clipmaker.numbered_image(7)).save(tmp_path / "a.png")
    with images.ImageReader(tmp_path / "a.png") as picture:
        for _ in range(2):
            (frame,) = picture.frames_at([0.0])
            assert clipmaker.number_of(frame.image) == 7
    assert len(read) == 2, "one for the size and the first look, one for the second look"


@pytest.mark.parametrize("kind", ["image", "frames"])
def test_non_image_is_an_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.mkdir() if kind == "frames" else path.write_bytes(b"text")
    with pytest.raises(ReaderError, match="empty"):
        open_video(path, kind=kind)  # type: ignore[arg-type]


def test_natural_sort_key() -> None:
    names = ["f10b2", "f2", "F1", "10", "9", "f10b10", "a"]
    assert sorted(names, key=natural_order) == ["9", "10", "a", "F1", "f2", "f10b2", "f10b10"]
