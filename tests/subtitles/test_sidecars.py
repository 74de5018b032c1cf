"""Choice of subtitles for a video: sidecar files and text tracks."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from support.clipmaker import evenly, write_clip

from smolvideo.media_types import CaptionKind
from smolvideo.pipeline.subtitles import AUTO, read_cues
from smolvideo.readers import open_video
from smolvideo.source import resolve_source
from smolvideo.subtitles import cues_of_track, find_sidecar, sidecar_kind

SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello there,\n"


class TestSidecar:
    @pytest.fixture
    def video(self, tmp_path: Path) -> Path:
        return tmp_path / "film [1080p].mp4"

    @pytest.mark.parametrize(
        ("beside", "found"),
        [
            (["film [1080p].srt"], "film [1080p].srt"),
            (["film [1080p].VTT"], "film [1080p].VTT"),
            (["film [1080p].mp4.srt"], "film [1080p].mp4.srt"),
            (["film [1080p].vtt", "film [1080p].srt"], "film [1080p].srt"),
            (["film [1080p].de.srt", "film [1080p].en.vtt"], "film [1080p].en.vtt"),
            (["film [1080p].en.srt", "film [1080p].ass"], "film [1080p].ass"),
            (["film [1080p].pt-BR.forced.srt"], "film [1080p].pt-BR.forced.srt"),
            (["film [1080p].part two.srt", "film.srt", "film 1.srt", "._film [1080p].srt"], None),
            ([], None),
        ],
    )
    def test_sidecar_belongs_to_a_video_by_name(self, video, beside, found):
        for name in beside:
            (video.parent / name).write_text(SRT)
        assert find_sidecar(video) == (found and video.parent / found)

    def test_folders_are_ignored_and_a_missing_folder_is_no_error(self, video):
        (video.parent / "film [1080p].srt").mkdir()
        assert find_sidecar(video) is None
        assert find_sidecar(video / "deeper" / "x.mp4") is None


# The first of each pair is chosen.
PREFERRED = [
    ("film.srt", "film.en.srt"),
    ("film.en.srt", "film.en.forced.srt"),
    ("film.en.srt", "film.forced.en.srt"),
    ("film.eng.srt", "film.forced.srt"),
    ("film.en.srt", "film.en.sdh.srt"),
    ("film.en.srt", "film.sdh.srt"),
    ("film.en.srt", "film.en.cc.srt"),
    ("film.en.srt", "film.en.hi.srt"),
    ("film.eng.srt", "film.eng.HI.srt"),
    ("film.en.sdh.srt", "film.en.forced.srt"),
    ("film.en.sdh.srt", "film.en.auto.vtt"),
    ("film.en.sdh.srt", "film.de.srt"),
    ("film.de.srt", "film.en.forced.srt"),
    ("film.de.srt", "film.en.Signs & Songs.srt"),
    ("film.de.srt", "film.Commentary.srt"),
    ("film.de.srt", "film.forced.srt"),
    ("film.de.srt", "film.en-forced.srt"),
    ("film.en.vtt", "film.en-orig.vtt"),
    ("film.en-orig.vtt", "film.de.vtt"),
    ("film.en.srt", "film.hi.srt"),
    ("film.en.srt", "film.zh-Hant-TW.srt"),
    ("film.en_US.srt", "film.pt-BR.srt"),
    ("film.en-GB.srt", "film.es-419.srt"),
    ("film.English.srt", "film.German.srt"),
    ("film.English (SDH).srt", "film.English.Forced.srt"),
    ("film.de.srt", "film.de.forced.srt"),
    ("film.zh-Hant-TW.srt", "film.zh-Hant-TW.sdh.srt"),
    ("film.en.srt", "film.en.2.srt"),
    ("film.en.srt", "film.en.vtt"),
    ("film.en.vtt", "film.en.ttml"),
    ("film.en.json3", "film.en.sub"),
    ("film.en.srt", "film.ene.srt"),
    ("film.mp4.en.srt", "film.de.srt"),
    ("film.en-eEY6OEpapPo.vtt", "film.de-AT-1996.vtt"),
    ("film.default.srt", "film.en.srt"),
]


@pytest.mark.parametrize(("taken", "left"), PREFERRED)
def test_preferred_sidecar_of_two(tmp_path: Path, taken: str, left: str) -> None:
    for name in (taken, left):
        (tmp_path / name).write_text(SRT)
    assert find_sidecar(tmp_path / "film.mp4") == tmp_path / taken
    (tmp_path / taken).unlink()
    assert find_sidecar(tmp_path / "film.mp4") == tmp_path / left, "alone it is good enough"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("film.srt", CaptionKind.FULL),
        ("film.hi.srt", CaptionKind.FULL),
        ("film.hi.forced.srt", CaptionKind.PARTIAL),
        ("film.hi.hi.srt", CaptionKind.HEARING_IMPAIRED),
        ("film.forced.hi.en.srt", CaptionKind.PARTIAL),
        ("film.pt-BR.sdh.srt", CaptionKind.HEARING_IMPAIRED),
        ("film.en.auto.vtt", CaptionKind.AUTOMATIC),
    ],
)
def test_caption_kind_of_a_name(name: str, kind: CaptionKind) -> None:
    assert sidecar_kind(Path(name), Path("film.mp4")) is kind


@pytest.mark.parametrize(
    "name",
    ["film.part two.srt", "film.2019.srt", "film.a.b.c.d.e.f.g.srt", "film2.srt", "film.en.txt",
     "film.en.de.fr.srt", "film..srt", "film.summary.srt", "film.-.srt"],
)  # fmt: skip
def test_sidecars_of_other_videos(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(SRT)
    assert find_sidecar(tmp_path / "film.mp4") is None


def test_sidecar_of_another_video_is_not_used(tmp_path: Path) -> None:
    for name in ("film.mp4", "film.2.mp4", "film.2.srt", "film.de.srt"):
        (tmp_path / name).write_text(SRT)
    assert find_sidecar(tmp_path / "film.2.mp4") == tmp_path / "film.2.srt"
    assert find_sidecar(tmp_path / "film.mp4") == tmp_path / "film.de.srt"


def test_bitmap_subtitles_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "film.sub").write_bytes(b"\0\0\1\xba" + bytes(2048))
    assert find_sidecar(tmp_path / "film.mp4") is None
    (tmp_path / "film.sub").write_bytes(b"{1}{50}Hello")
    assert find_sidecar(tmp_path / "film.mp4") == tmp_path / "film.sub"


def test_decomposed_sidecar_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "cafe\u0301.en.srt").write_text(SRT)
    found = find_sidecar(tmp_path / "caf\u00e9.mp4")
    assert found is not None
    assert found.is_file()


Track = tuple[str, str, str, str]
"""Text, language, dispositions and title of a track."""

FULL: Track = ("full", "eng", "", "")


@pytest.mark.parametrize(
    ("tracks", "said"),
    [
        ([("forced", "eng", "default forced", ""), FULL], "full"),
        ([("sdh", "eng", "hearing_impaired", ""), FULL], "full"),
        ([("sdh", "eng", "default hearing_impaired", ""), FULL], "full"),
        ([("cc", "eng", "", "English (CC)"), FULL], "full"),
        ([("notes", "eng", "comment", ""), FULL], "full"),
        ([("forced", "eng", "", "English [Forced]"), FULL], "full"),
        ([("sdh", "eng", "", "SDH"), FULL], "full"),
        ([("signs", "eng", "default", "Signs & Songs"), FULL], "full"),
        ([("notes", "eng", "", "Director's Commentary"), FULL], "full"),
        ([("de", "ger", "default", ""), FULL], "de"),
        ([("de", "ger", "", ""), FULL], "full"),
        ([("sdh", "eng", "hearing_impaired", ""), ("de", "ger", "", "")], "sdh"),
        ([("forced", "eng", "forced", ""), ("de", "ger", "", "")], "de"),
        ([("forced", "eng", "forced", "")], "forced"),
        ([("fr", "fre", "", ""), ("de", "ger", "", "")], "fr"),
    ],
)
def test_preferred_text_track(tmp_path: Path, tracks: list[Track], said: str) -> None:
    path = write_tracks(tmp_path / "film.mkv", [(text.encode(), *rest) for text, *rest in tracks])
    with open_video(path) as video:
        assert [cue.text for cue in cues_of_track(video.text_track())] == [said]


@pytest.mark.parametrize(
    ("beside", "tracks", "said", "found"),
    [
        ("film.en.forced.srt", [], "beside", "`film.en.forced.srt`"),
        ("film.en.forced.srt", [("signs", "eng", "forced", "")], "beside", "`film.en.forced.srt`"),
        ("film.en.forced.srt", [FULL], "full", ""),
        ("film.en.srt", [FULL], "beside", ""),
        ("", [("signs", "eng", "forced", "")], "signs", "a text track of `film.mkv`"),
        ("", [("signs", "eng", "forced", ""), ("de", "ger", "", "")], "de", ""),
    ],
)
def test_partial_subtitles_have_a_notice(
    tmp_path: Path, beside: str, tracks: list[Track], said: str, found: str
) -> None:
    path = write_tracks(tmp_path / "film.mkv", [(text.encode(), *rest) for text, *rest in tracks])
    if beside:
        (tmp_path / beside).write_text(SRT.replace("Hello there,", "beside"))
    heard: list[str] = []
    (video,) = resolve_source(str(path))
    cues = read_cues(AUTO, video, reader="pyav", on_notice=heard.append)
    assert [cue.text for cue in cues] == [said]
    notice = (
        f"only forced subtitles (or signs, songs, commentary) were found: {found};"
        " they hold a part of what is said"
    )
    assert heard == ([notice] if found else [])


def test_code_page_bytes_in_a_track(tmp_path: Path) -> None:
    said = "Я ждал тебя возле дома, но ты так и не пришла."
    path = write_tracks(tmp_path / "film.mkv", [(said.encode("cp1251"), "rus", "", "")])
    heard: list[str] = []
    with open_video(path) as video:
        cues = cues_of_track(video.text_track(), on_notice=heard.append)
    assert [cue.text for cue in cues] == [said]
    assert heard == ["the text track is not UTF-8; that its encoding is cp1251 is a guess"]


@pytest.mark.parametrize("encoding", ["iso2022_jp", "iso2022_jp_2004"])
def test_iso_2022_escapes_in_a_track(tmp_path: Path, encoding: str) -> None:
    said = "昨日の夜はどこにいたの"
    path = write_tracks(tmp_path / "film.mkv", [(said.encode(encoding), "jpn", "", "")])
    with open_video(path) as video:
        assert [cue.text for cue in cues_of_track(video.text_track())] == [said]


def write_tracks(path: Path, tracks: list[tuple[bytes, str, str, str]]) -> Path:
    """Write a Matroska file with a video track and a subtitle track for each of ``tracks``."""
    pictures = write_clip(path.with_suffix(".mp4"), evenly(4, fps=25))
    with av.open(pictures.path) as original, av.open(path, "w") as output:
        shown = output.add_stream_from_template(original.streams.video[0])
        streams = []
        for _, language, dispositions, title in tracks:
            stream = output.add_mux_stream("subrip")
            stream.metadata.update({"language": language, "title": title})
            for name in dispositions.split():
                stream.disposition |= av.stream.Disposition[name]
            streams.append(stream)
        for packet in original.demux(video=0):
            if packet.dts is not None:
                packet.stream = shown
                output.mux(packet)
        for stream, (content, *_) in zip(streams, tracks, strict=True):
            cue = av.Packet(content)
            cue.stream, cue.time_base = stream, Fraction(1, 1000)
            cue.pts, cue.dts, cue.duration = 10, 10, 50
            output.mux(cue)
    return path
