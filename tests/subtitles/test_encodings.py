"""Subtitle encodings of twelve alphabets, intact and with a wrong byte."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.subtitles import read_subtitles
from smolvideo.subtitles.encodings import decode_text

SAID = {
    "cp1251": ["Я ждал тебя возле дома, но ты так и не пришла.", "Её зовут Анна.", "Подожди!"],
    "koi8-r": ["Что вы здесь делаете?", "Мы ищем старый ключ от подвала.", "Спасибо!"],
    "cp866": ["Что вы здесь делаете?", "Мы ищем старый ключ от подвала.", "Спасибо!"],
    "cp1250": ["Zaczekaj chwilę, zaraz wrócę.", "Nic się nie stało.", "Dziękuję, do widzenia!"],
    "iso8859-2": ["Čekal jsem na tebe před domem.", "Proč? Vždyť je to pravda!", "Děkuji."],
    "cp1252": ["Où étais-tu hier soir ?", "Elle habite à Besançon.", "Merci, à bientôt !"],
    "cp1253": ["Πού ήσουν χθες το βράδυ;", "Τη λένε Άννα.", "Ευχαριστώ, αντίο!"],
    "cp1254": ["Dün akşam neredeydin?", "Seni evin önünde bekledim.", "Teşekkürler, hoşça!"],
    "cp1255": ["איפה היית אתמול בערב?", "קוראים לה אנה והיא גרה בחיפה.", "תודה, להתראות!"],
    "cp1256": ["أين كنت مساء أمس؟", "اسمها آنا وهي تعيش في القاهرة.", "شكرا، مع السلامة!"],
    "gb18030": ["你昨天晚上在哪里?", "我在房子前面等你,可是你没有来。", "谢谢,再见!"],
    "big5": ["你昨天晚上在哪裡?", "我在房子前面等你,可是你沒有來。", "謝謝,再見!"],
    "cp932": ["昨日の夜はどこにいたの?", "家の前で待っていたのに。", "ありがとう、さようなら!"],
    "euc_jp": ["昨日の夜はどこにいたの?", "家の前で待っていたのに。", "ありがとう、さようなら!"],
    "cp949": ["어젯밤에 어디 있었어?", "집 앞에서 기다렸는데 오지 않았잖아.", "고마워요!"],
    "cp874": ["เมื่อคืนคุณอยู่ที่ไหน", "ฉันรอคุณอยู่หน้าบ้าน แต่คุณไม่มา", "ขอบคุณ ลาก่อน"],
}


def subrip(said: list[str]) -> str:
    return "".join(
        f"{n}\n00:00:{3 * n:02},000 --> 00:00:{3 * n + 2:02},500\n{text}\n\n"
        for n, text in enumerate(said, 1)
    )


@pytest.mark.parametrize("encoding", SAID)
def test_code_pages_are_guessed_with_a_notice(tmp_path: Path, encoding: str) -> None:
    path, heard = tmp_path / "film.srt", []
    path.write_bytes(subrip(SAID[encoding]).encode(encoding))
    cues = read_subtitles(path, on_notice=heard.append)
    assert [cue.text for cue in cues] == SAID[encoding]
    assert len(heard) == 1
    assert heard[0].startswith(f"`{path}` is not UTF-8; that its encoding is ")
    assert heard[0].endswith(" is a guess")


@pytest.mark.parametrize("said", [SAID["cp1252"], SAID["cp1251"], SAID["cp932"]])
def test_utf_7_is_decoded_with_a_notice(tmp_path: Path, said: list[str]) -> None:
    path, heard = tmp_path / "film.srt", []
    path.write_bytes(subrip(said).encode("utf-7"))
    assert [cue.text for cue in read_subtitles(path, on_notice=heard.append)] == said
    assert heard == [f"`{path}` looks like UTF-7, and is read as such: that is a guess"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("caf+AOk-", "café"),
        ("+/v8-hello", "hello"),
        *[(plain, plain) for plain in (
            "1+1=2", "C++ is", "A+B-", "+abc- is a word", "+49-30-123456", "fade +10dB", "UTC+0100",
            "a+AGEAYg-b", "+AAA-", "1 +- 2", "caf+AOk- and +x",
        )],
    ],
)  # fmt: skip
def test_plus_signs_are_rarely_utf_7(content: str, text: str) -> None:
    decoded = decode_text(content.encode())
    assert decoded.text == text
    assert (decoded.guess is None) == (content == text)


@pytest.mark.parametrize("encoding", SAID)
def test_wrong_byte_damages_only_its_line(encoding: str) -> None:
    content = subrip(SAID[encoding]).encode(encoding)
    at = next(place for place, byte in enumerate(content) if byte > 127)
    decoded = decode_text(content[:at] + b"\xff" + content[at + 1 :])
    lines = decoded.text.splitlines()
    assert lines[6] == SAID[encoding][1]
    assert lines[10] == SAID[encoding][2]


WESTERN = ["Où étais-tu hier soir ?", "L\u2019hôtel est là-bas, à côté du théâtre…", "Ça a été."]
POLISH = ["Zaczekaj chwilę, zaraz wrócę.", "Nic się nie stało.", "Dziękuję, do widzenia!"]


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("mac-roman", WESTERN),
        ("mac-roman", ["Grüße aus München!", "Die Straße ist schön.", "Über den Fluß"]),
        ("cp850", [line.replace("\u2019", "'").replace("…", ".") for line in WESTERN]),
        ("mac-latin2", POLISH),
        ("cp852", POLISH),
    ],
)
def test_dos_and_mac_code_pages_are_guessed(tmp_path: Path, encoding: str, said: list[str]) -> None:
    path, heard = tmp_path / "film.srt", []
    path.write_bytes(subrip(said).encode(encoding))
    assert [cue.text for cue in read_subtitles(path, on_notice=heard.append)] == said
    assert heard == [f"`{path}` is not UTF-8; that its encoding is {encoding} is a guess"]


@pytest.mark.parametrize(
    ("encoding", "like"),
    [
        ("iso2022_jp", "cp932"),
        ("iso2022_jp_2004", "cp932"),
        ("iso2022_jp_ext", "cp932"),
        ("iso2022_kr", "cp949"),
        ("hz", "gb18030"),
    ],
)
def test_shift_encodings_are_recognised_by_their_escapes(
    tmp_path: Path, encoding: str, like: str
) -> None:
    """All bytes are ASCII: unless escapes are checked first, they decode as UTF-8 to garbage."""
    path, heard = tmp_path / "film.srt", []
    path.write_bytes(subrip(SAID[like]).encode(encoding))
    assert [cue.text for cue in read_subtitles(path, on_notice=heard.append)] == SAID[like]
    assert heard == []


@pytest.mark.parametrize("said", ["A tilde and a brace: ~{ ~}", "~{#-o", "\x1b$ 5", "été \x1b$ 5"])
def test_shift_sequences_in_plain_text_are_kept(said: str) -> None:
    assert decode_text(subrip([said]).encode()).text == subrip([said])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_unicode_is_detected_without_a_guess(encoding: str, said: list[str]) -> None:
    decoded = decode_text(subrip(said).encode(encoding))
    assert (decoded.text, decoded.guess, decoded.bad) == (subrip(said), None, 0)


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
@pytest.mark.parametrize("bad", [b"\xd0", b"\xff", b"\x93", b"\xe4\xb8"])
def test_bad_byte_replaces_one_character(tmp_path: Path, said: list[str], bad: bytes) -> None:
    path, heard = tmp_path / "film.srt", []
    path.write_bytes(subrip([*said, "cut ~"]).encode().replace(b"~", bad))
    cues = read_subtitles(path, on_notice=heard.append)
    assert [cue.text for cue in cues] == [*said, "cut \N{REPLACEMENT CHARACTER}"]
    assert heard == [f"1 character was unreadable in `{path}`, shown as \N{REPLACEMENT CHARACTER}"]


def test_replacement_character_in_the_file_is_not_a_bad_byte() -> None:
    assert decode_text("schön \N{REPLACEMENT CHARACTER}".encode()).bad == 0


def test_ascii_is_decoded_without_a_guess() -> None:
    assert decode_text(subrip(["Hello."]).encode()).guess is None


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_without_error(content: bytes) -> None:
    decoded = decode_text(content)
    assert decoded.bad >= 0
    assert decoded.text.encode("utf-8", errors="surrogatepass") is not None


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_utf8_round_trip(text: str) -> None:
    assert decode_text(b"\xef\xbb\xbf" + text.encode()).text == text
