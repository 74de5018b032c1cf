"""Benchmark video names matched to files of a folder: the right file, or none if ambiguous."""

import unicodedata
from pathlib import Path

import pytest

from smolvideo.evals.datasets.schemas.mvbench import MVBENCH_FOLDERS, MvBench
from smolvideo.evals.datasets.schemas.schema import RowPlace
from smolvideo.evals.item import EvalItem
from smolvideo.evals.videos import MissingVideo, VideoFinder, VideoFolder

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0\0\0\x18ftypmp42 " + name.encode())
    return folder


def found(folder: Path, name: str) -> str | None:
    path = VideoFolder(folder).find([name])
    return None if path is None else path.relative_to(folder).as_posix()


def ambiguous(folder: Path, name: str) -> str:
    with pytest.raises(MissingVideo, match="is ambiguous") as raised:
        VideoFolder(folder).find([name])
    return str(raised.value)


def test_name_with_folders_matches_only_there(tmp_path: Path) -> None:
    write(tmp_path, "day1/cam1.mp4", "backup/day3/cam1.mp4")
    assert found(tmp_path, "day2/cam1.mp4") is None
    assert found(tmp_path, "day1/cam1.mp4") == "day1/cam1.mp4"
    assert found(tmp_path, "./day1//cam1.mp4") == "day1/cam1.mp4"
    assert found(tmp_path, "day1\\cam1.mp4") == "day1/cam1.mp4"
    assert found(tmp_path, "day3/cam1.mp4") == "backup/day3/cam1.mp4"
    assert found(tmp_path / "day1", "day1/cam1.mp4") == "cam1.mp4"
    assert found(tmp_path / "day1", str(tmp_path / "day1/cam1.mp4")) == "cam1.mp4"
    assert found(tmp_path / "day1", "day2/cam1.mp4") is None
    for upwards in ("day1/../day1/cam1.mp4", "../day1/cam1.mp4", "..", "/", "", "\0", "x" * 5000):
        assert found(tmp_path, upwards) is None
    assert "`backup/day3/cam1.mp4`, `day1/cam1.mp4`" in ambiguous(tmp_path, "cam1.mp4")
    ambiguous(tmp_path, "cam1")


def test_missing_video_error_names_a_file_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, "day1/cam1.mp4")
    with pytest.raises(MissingVideo, match=r"`day2/cam1.mp4` is not in the folder") as raised:
        VideoFinder(VideoFolder(tmp_path)).find(EvalItem("0", ("day2/cam1.mp4",), "?", ("x",), 0))
    assert "day1/cam1.mp4" in str(raised.value.hint)


def test_exact_path_is_preferred_to_the_same_name_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4", "old/a.mp4")
    assert found(tmp_path, "a.mp4") == "a.mp4"
    assert found(tmp_path, "old/a.mp4") == "old/a.mp4"


def test_suffixes_are_optional(tmp_path: Path) -> None:
    write(tmp_path, "x.mp4", "x.webm", "y.MP4", "y.mp4", "ab.mp4", "abc.mp4", "v1.5.mp4", "s.srt")
    assert found(tmp_path, "x.mp4") == "x.mp4"
    assert found(tmp_path, "x.webm") == "x.webm"
    assert found(tmp_path, "y.MP4") == "y.MP4"
    assert found(tmp_path, "ab") == "ab.mp4", "an id that begins another one"
    assert found(tmp_path, "v1.5") == "v1.5.mp4"
    assert found(tmp_path, "v1") is None
    for name in ("x", "x.avi", "y"):
        ambiguous(tmp_path, name)


def test_case_and_blanks_distinguish_names(tmp_path: Path) -> None:
    write(tmp_path, "Clip.mp4", "clip.mp4", "one.mp4", "one.mp4 ", "two.mp4")
    assert found(tmp_path, "clip.mp4") == "clip.mp4"
    assert found(tmp_path, "Clip") == "Clip.mp4"
    assert found(tmp_path, "CLIP.mp4") is None
    assert found(tmp_path, "one.mp4 ") == "one.mp4 "
    assert found(tmp_path, "one.mp4") == "one.mp4"
    assert found(tmp_path, " two.mp4 ") == "two.mp4"


def test_hidden_and_partial_files_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, "._a.mp4", "a.mp4", ".trash/b.mp4", "c.mp4.part")
    assert found(tmp_path, "a") == "a.mp4"
    for name in ("._a.mp4", "b.mp4", ".trash/b.mp4", "c.mp4", "c.mp4.part"):
        assert found(tmp_path, name) is None


def test_symlinks_to_one_file_are_one_match(tmp_path: Path) -> None:
    write(tmp_path, "all/a.mp4", "other/b.mp4")
    (tmp_path / "picked").mkdir()
    (tmp_path / "picked/a.mp4").symlink_to(tmp_path / "all/a.mp4")
    assert found(tmp_path, "a.mp4") in ("all/a.mp4", "picked/a.mp4")
    (tmp_path / "picked/b.mp4").symlink_to(tmp_path / "all/a.mp4")
    ambiguous(tmp_path, "b.mp4")
    finder = VideoFinder(VideoFolder(tmp_path))
    for name in ("picked/a.mp4", "all/a.mp4", "picked/b.mp4"):
        assert finder.find(EvalItem("0", (name,), "?", ("x",), 0)).file == "all/a.mp4"


def test_folders_of_frames_match_video_names(tmp_path: Path) -> None:
    write(tmp_path, "a/a.mp4", "b/0001.jpg", "b.mp4", "c.mp4/0001.jpg", "sub/c.mp4")
    inside = VideoFinder(VideoFolder(tmp_path)).find(EvalItem("0", ("a",), "?", ("x",), 0))
    assert inside.file == "a/a.mp4"
    ambiguous(tmp_path, "b")
    assert found(tmp_path, "b.mp4") == "b.mp4"
    assert found(tmp_path, "c.mp4") == "c.mp4"


def test_composed_and_decomposed_names_match(tmp_path: Path) -> None:
    write(tmp_path, f"{DECOMPOSED}/{DECOMPOSED}.mp4")
    assert found(tmp_path, f"{COMPOSED}.mp4") == f"{DECOMPOSED}/{DECOMPOSED}.mp4"
    assert found(tmp_path, f"{COMPOSED}/{DECOMPOSED}") == f"{DECOMPOSED}/{DECOMPOSED}.mp4"
    write(tmp_path, f"both/{COMPOSED}.avi", f"both/{DECOMPOSED}.avi")
    for form in (COMPOSED, DECOMPOSED):
        assert found(tmp_path, f"both/{form}.avi") == f"both/{form}.avi"
        assert found(tmp_path, f"both/{form}") == f"both/{form}.avi"
    assert VideoFolder(tmp_path / DECOMPOSED).find([f"{COMPOSED}/{COMPOSED}.mp4"]) is not None


def test_paths_equal_in_nfc_stay_two_files(tmp_path: Path) -> None:
    write(tmp_path, f"both/{COMPOSED}.avi", f"both/{DECOMPOSED}.avi", f"{DECOMPOSED}.mp4")
    folder = VideoFolder(tmp_path)
    for form in (COMPOSED, DECOMPOSED):
        assert folder.relative(tmp_path / f"both/{form}.avi") == f"both/{form}.avi"
    assert folder.relative(tmp_path / f"{DECOMPOSED}.mp4") == f"{COMPOSED}.mp4"


def subtitles(folder: Path, video: str, *names: str) -> str | None:
    path = VideoFolder(folder).find_subtitles(names, folder / video)
    return None if path is None else path.relative_to(folder).as_posix()


def test_subtitles_belong_to_one_video(tmp_path: Path) -> None:
    write(tmp_path, "day1/cam1.mp4", "day1/cam1.srt", "day2/cam1.mp4", "texts/cam2.srt", "cam2.mp4")
    assert subtitles(tmp_path, "day1/cam1.mp4", "day1/cam1.srt") == "day1/cam1.srt"
    assert subtitles(tmp_path, "day2/cam1.mp4", "day2/cam1.srt", "day2/cam1.vtt") is None
    assert subtitles(tmp_path, "day2/cam1.mp4", "cam1.srt") is None, "that of day1/cam1.mp4"
    assert subtitles(tmp_path, "cam2.mp4", "cam2.srt") == "texts/cam2.srt"
    write(tmp_path, "more/cam2.srt", "day2/cam1.vtt")
    assert subtitles(tmp_path, "day2/cam1.mp4", "cam1.srt", "cam1.vtt") == "day2/cam1.vtt"
    with pytest.raises(MissingVideo, match=r"ambiguous \(`more/cam2.srt`, `texts/cam2.srt`\)"):
        subtitles(tmp_path, "cam2.mp4", "cam2.srt")


def mvbench(task: str, video: str = "video_1.mp4") -> EvalItem:
    row = {"video": video, "question": "?", "candidates": ["x", "y"], "answer": "x", "start": 1}
    item = MvBench().item(row | {"end": 2}, RowPlace(0, task))
    assert item is not None
    return item


def test_every_mvbench_task_has_its_folder(tmp_path: Path) -> None:
    assert len(MVBENCH_FOLDERS) == 20
    for folders in MVBENCH_FOLDERS.values():
        write(tmp_path / "whole", f"{folders.whole[0]}/video_1.mp4")
        write(tmp_path / "cut", f"{(folders.cut or folders.whole)[-1]}/video_1.mp4")
    for task, folders in MVBENCH_FOLDERS.items():
        whole = VideoFinder(VideoFolder(tmp_path / "whole")).find(mvbench(task))
        assert (whole.file, whole.is_cut) == (f"{folders.whole[0]}/video_1.mp4", False)
        cut = VideoFinder(VideoFolder(tmp_path / "cut")).find(mvbench(task))
        assert cut.is_cut == bool(folders.cut)


def test_mvbench_tasks_never_share_videos(tmp_path: Path) -> None:
    write(tmp_path, "mvbench/perception/videos/video_1.mp4", "flat/video_2.mp4")
    for folder in (tmp_path, tmp_path / "mvbench", tmp_path / "mvbench/perception"):
        finder = VideoFinder(VideoFolder(folder))
        assert finder.find(mvbench("object_shuffle")).file.endswith("videos/video_1.mp4")
        with pytest.raises(MissingVideo, match="clevrer/video_validation/video_1"):
            finder.find(mvbench("moving_count"))
    finder = VideoFinder(VideoFolder(tmp_path / "flat"))
    assert finder.find(mvbench("moving_count", "video_2.mp4")).file == "video_2.mp4"
    finder = VideoFinder(VideoFolder(tmp_path))
    assert finder.find(mvbench("a_task_of_my_own")).file.endswith("video_1.mp4")
