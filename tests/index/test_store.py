"""The index file: versions, damage, search with hostile words, sharing between processes."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvideo.errors import RecordError
from smolvideo.index.claims import LEASE_SECONDS, is_alive, is_same_owner, this_process
from smolvideo.index.entries import IndexedWindow
from smolvideo.index.named_paths import path_matcher
from smolvideo.index.store import IndexStore
from smolvideo.index.text_query import MAX_TERMS, loosening, query_terms, stems_of
from smolvideo.subtitles import Cue

OURS = this_process()


def window(number: int, note: str, **more: object) -> IndexedWindow:
    start = 10.0 * number
    return IndexedWindow(number, start, start + 10, (start, start + 5), note, **more)  # type: ignore[arg-type]


def add(store: IndexStore, sha256: str, *notes: str, path: str | None = None) -> None:
    assert store.claim(sha256, settings_key="k", model="nano", window_seconds=10, owner=OURS)
    store.add_path(path or f"/videos/{sha256}.mp4", sha256, (1, 2, 3))
    for number, note in enumerate(notes):
        store.add_window(sha256, window(number, note))
    store.finish(sha256, duration_seconds=10.0 * len(notes))


@pytest.fixture
def store(tmp_path: Path) -> IndexStore:
    return IndexStore(tmp_path / "index.sqlite")


def notes(store: IndexStore, query: str, **more: object) -> list[str]:
    return [one.note for _, one in store.search(query, **more)]  # type: ignore[arg-type]


def test_windows_are_found_by_stems_of_their_words(store: IndexStore) -> None:
    add(store, "a", "Two dogs run through snow.", "A car.")
    add(store, "b", "A dog sleeps.")
    assert notes(store, "a dog running in the snow") == [
        "Two dogs run through snow.",
        "A dog sleeps.",
    ]
    assert notes(store, "zebra") == []
    assert notes(store, "DÖG") == notes(store, "dog")


def test_window_returns_as_it_was_written(store: IndexStore) -> None:
    add(store, "a")
    cues = (Cue(1.0, 2.5, "Hello."), Cue(3.0, 4.0, "“Quoted” — text"))
    first = window(0, "A note.", screen_text="EXIT 12", cues=cues)
    store.add_window("a", first)
    store.add_window("a", window(0, "another"))  # the same number: the first one stays
    ((content, found),) = store.windows([1])
    assert (content, found) == (1, IndexedWindow(**{**vars(first), "id": found.id}))
    assert store.window_numbers("a") == {0}
    assert [one.cues for _, one in store.search("hello")] == [cues]


def test_search_is_limited_to_contents(store: IndexStore) -> None:
    add(store, "a", "a cat", "a cat and a cat")
    add(store, "b", "a cat")
    assert len(notes(store, "cat")) == 3
    assert len(notes(store, "cat", contents=[2])) == 1
    assert len(notes(store, "cat", limit=2)) == 2
    assert notes(store, "cat", contents=[]) == []


@pytest.fixture(scope="module")
def text_table() -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE t USING fts5 (note, screen_text, cues)")
    database.execute("INSERT INTO t VALUES ('a note', '', '')")
    yield database
    database.close()


@settings(max_examples=40)
@given(text=st.text(max_size=60))
def test_any_query_is_searched_as_words(text_table: sqlite3.Connection, text: str) -> None:
    terms = query_terms(text)
    stems_of(terms)
    for expression in loosening(terms):
        text_table.execute("SELECT * FROM t WHERE t MATCH ?", (expression,)).fetchall()


def test_windows_with_more_of_the_words_come_first(store: IndexStore) -> None:
    add(store, "a", "red", "red circle", "red circle left", "circle left", "blue", "red red red")
    found = notes(store, "a red circle on the left")
    assert found[0] == "red circle left"
    assert set(found[1:3]) == {"circle left", "red circle"}
    assert set(found[3:]) == {"red", "red red red"}
    assert notes(store, "zebra red") == notes(store, "red")


@pytest.mark.parametrize(
    "query",
    [
        'a" OR note:*',
        "NEAR(a b) AND NOT (c",
        "note:secret",
        "^start -end {x} + *",
        "'; DROP TABLE window; --",
        "\x00\ud800 zero",
        '"' * 500 + "x",
    ],
)
def test_syntax_of_fts5_and_sql_in_a_query_is_text(store: IndexStore, query: str) -> None:
    add(store, "a", "start and secret", "x zero")
    assert notes(store, query) is not None
    assert store.status().windows == 2


def test_terms_are_distinct_content_words_and_limited() -> None:
    assert query_terms("The dog and THE dog, a_cat") == ("dog", "cat")
    assert query_terms("in the") == ("in", "the")
    assert query_terms("?! …") == ()
    assert len(query_terms(" ".join(f"w{n}" for n in range(99)))) == MAX_TERMS


def test_text_that_utf8_or_sqlite_cannot_hold_is_replaced(store: IndexStore) -> None:
    add(store, "a", "a\x00b \ud800c")
    assert notes(store, "b") == ["a b ?c"]


def test_contents_without_files_are_removed(store: IndexStore) -> None:
    add(store, "a", "a cat")
    store.add_path("/videos/copy.mp4", "a", (1,))
    store.forget(["/videos/a.mp4"])
    assert notes(store, "cat") == ["a cat"]
    store.forget(["/videos/copy.mp4"])
    assert (notes(store, "cat"), store.status().videos, store.status().windows) == ([], 0, 0)


def test_file_with_new_content_leaves_the_old_one(store: IndexStore) -> None:
    add(store, "a", "a cat", path="/v.mp4")
    add(store, "b", "a dog", path="/v.mp4")
    assert (notes(store, "cat"), notes(store, "dog")) == ([], ["a dog"])
    assert store.known_hash("/v.mp4", (1, 2, 3)) == "b"
    assert store.known_hash("/v.mp4", (9,)) is None


def test_paths_within_a_folder_are_not_those_of_a_similar_name(store: IndexStore) -> None:
    for number, path in enumerate(("/v/a.mp4", "/v/b/c.mp4", "/video/d.mp4", "/v")):
        add(store, str(number), path=path)
    assert [path for path, _ in store.paths([Path("/v/b")])] == ["/v/b/c.mp4"]
    assert [path for path, _ in store.paths([Path("/v")])] == ["/v", "/v/a.mp4", "/v/b/c.mp4"]
    assert len(store.paths()) == 4


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("/v/*.mp4", {"/v/a.mp4"}),
        ("/v/**/*.mp4", {"/v/a.mp4", "/v/b/c.mp4"}),
        ("/v/?", {"/v/b/c.mp4"}),
        ("/v/[ab]*", {"/v/a.mp4", "/v/b/c.mp4"}),
        ("/v*", {"/v/a.mp4", "/v/b/c.mp4", "/v/.e.mp4", "/video/d.mp4"}),
        ("file:///v/b", {"/v/b/c.mp4"}),
        ("https://host/a//b.mp4?token=secret", {"https://host/a//b.mp4"}),
        ("/v/.*", {"/v/.e.mp4"}),
        ("~/e.mp4", {str(Path.home() / "e.mp4")}),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="the paths are those of POSIX")
def test_paths_of_patterns_addresses_and_homes(
    store: IndexStore, source: str, found: set[str]
) -> None:
    paths = ("/v/a.mp4", "/v/b/c.mp4", "/video/d.mp4", "https://host/a//b.mp4", "/v/.e.mp4")
    for number, path in enumerate((*paths, str(Path.home() / "e.mp4"))):
        add(store, str(number), path=path)
    assert {path for path, _ in store.paths([source])} == found


def test_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "films [2024]"
    folder.mkdir()
    matches = path_matcher([folder])
    assert matches(str(folder / "a.mp4"))
    assert not matches(str(tmp_path / "films 2" / "a.mp4"))


def test_scripts_without_spaces_are_searched_by_parts(store: IndexStore) -> None:
    add(store, "a", "犬が雪の中を走る", "a dog and 猫", "หมาวิ่งบนหิมะ", "Straße")
    assert notes(store, "犬") == ["犬が雪の中を走る"]
    assert notes(store, "雪の中の犬")[0] == "犬が雪の中を走る"
    assert notes(store, "猫 dog") == ["a dog and 猫"]
    assert notes(store, "หิมะ") == ["หมาวิ่งบนหิมะ"]
    assert notes(store, "straße") == ["Straße"]
    assert notes(store, "魚") == []
    assert notes(store, "犬", contents=[1]) == ["犬が雪の中を走る"]
    assert notes(store, "犬", contents=[2]) == []


def test_other_subtitles_replace_those_of_all_windows(store: IndexStore) -> None:
    add(store, "a", "one", "two")
    cues = (Cue(1.0, 2.0, "Hello."), Cue(9.0, 12.0, "World."))
    assert store.replace_cues(1, cues) == 2
    assert [one.cues for _, one in store.windows([1])] == [cues, cues[1:]]
    assert notes(store, "hello") == ["one"]
    assert store.replace_cues(1, cues) == 0
    assert store.replace_cues(1, cues[:1]) == 2
    assert (notes(store, "world"), notes(store, "hello")) == ([], ["one"])
    store.rebuild_text()
    assert notes(store, "hello") == ["one"]


def test_other_settings_delete_the_windows(store: IndexStore) -> None:
    add(store, "a", "a cat")
    assert store.claim("a", settings_key="other", model="m", window_seconds=5, owner=OURS)
    entry = store.content("a")
    assert entry is not None
    assert (entry.window_count, entry.is_complete, entry.model) == (0, False, "m")
    assert notes(store, "cat") == []


def test_claim_of_a_living_process_is_respected_and_that_of_a_dead_one_is_not(
    store: IndexStore,
) -> None:
    settings = {"settings_key": "k", "model": "nano", "window_seconds": 10.0}
    script = (
        "from pathlib import Path; import sys; from smolvideo.index import IndexStore\n"
        "from smolvideo.index.claims import this_process\n"
        "store = IndexStore(Path(sys.argv[1])); store.claim('a', settings_key='k', model='nano', "
        "window_seconds=10.0, owner=this_process()); print('claimed', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(store.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"claimed\n"
    assert not store.claim("a", owner=OURS, **settings)  # type: ignore[arg-type]
    child.kill()
    child.communicate()
    assert store.claim("a", owner=OURS, **settings)  # type: ignore[arg-type]
    assert is_alive(OURS)
    assert not is_alive("no process")


def test_claim_of_another_machine_counts_for_a_time() -> None:
    now = time.time()
    assert is_alive(f"elsewhere 1 {now:.2f} {now:.0f}")
    assert not is_alive(f"elsewhere 1 {now:.2f} {now - LEASE_SECONDS - 1:.0f}")
    assert not is_alive(f"elsewhere 1 {now:.2f} {now + 9 * LEASE_SECONDS:.0f}")
    machine, number, began, renewed = OURS.split()
    assert is_same_owner(f"{machine} {number} {began} 0", OURS)
    assert not is_alive(f"{machine} {number} {float(began) - 99:.2f} {renewed}"), "a reused id"


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="this system has no zombies")
def test_claim_of_a_killed_process_does_not_count_before_its_parent_notices() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from smolvideo.index.claims import this_process\n"
         "print(this_process(), flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    claim = child.stdout.readline().strip()
    assert is_alive(claim)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and its id still in use
    assert not is_alive(claim)
    child.communicate()


def test_reader_sees_what_another_connection_commits(store: IndexStore) -> None:
    add(store, "a", "a cat")
    with IndexStore(store.path, read_only=True) as other:
        assert notes(other, "cat") == ["a cat"]
        store.add_window("a", window(1, "a second cat"))
        assert len(notes(other, "cat")) == 2


def test_evenly_spread_windows(store: IndexStore) -> None:
    add(store, "a", *map(str, range(10)))
    found = store.spread([1], 4)
    assert [one.number for _, one in found] == [0, 3, 6, 9]
    ids = {one.id for _, one in found}
    assert not ids & {one.id for _, one in store.spread([1], 4, without=ids)}
    assert store.spread([1], 0) == []
    assert len(store.spread([1], 99)) == 10


def test_missing_index_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no index") as caught:
        IndexStore(tmp_path / "none.sqlite", read_only=True)
    assert "smolvideo index" in str(caught.value.hint)
    assert not (tmp_path / "none.sqlite").exists()


def test_newer_version_and_other_databases_are_refused(store: IndexStore, tmp_path: Path) -> None:
    store.close()
    with sqlite3.connect(store.path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(RecordError, match="has version 99") as caught:
        IndexStore(store.path)
    assert "update" in str(caught.value.hint)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (x)")
    with pytest.raises(RecordError, match="no index of smolvideo"):
        IndexStore(other)
    with sqlite3.connect(other) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Drop root for a while, which may write everywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def read_only(store: IndexStore) -> Iterator[Path]:
    """A copy of the index in a folder that cannot be written, as on a mounted share."""
    if not hasattr(os, "geteuid"):
        pytest.skip("folders have no such rights on this system")
    add(store, "a", "a cat")
    store.close()
    with tempfile.TemporaryDirectory(prefix="smolvideo-read-only-") as folder:
        path = Path(folder) / "index.sqlite"
        shutil.copyfile(store.path, path)
        path.chmod(0o444)
        path.parent.chmod(0o555)
        yield path
        path.parent.chmod(0o755)


def test_index_in_a_read_only_place_is_searched_with_a_notice(read_only: Path) -> None:
    with as_ordinary_user(), IndexStore(read_only, read_only=True) as found:
        assert notes(found, "cat") == ["a cat"]
        assert len(found.notices) == 1
        assert "cannot be written" in found.notices[0]
        assert found.status().windows == 1
    read_only.parent.chmod(0o755)
    Path(f"{read_only}-wal").write_bytes(b"x" * 99)
    read_only.parent.chmod(0o555)
    with as_ordinary_user(), IndexStore(read_only, read_only=True) as found:
        assert "newest windows" in found.notices[0]
        assert notes(found, "cat") == ["a cat"]


def test_index_in_a_read_only_place_cannot_be_filled(read_only: Path) -> None:
    with as_ordinary_user(), pytest.raises(RecordError, match="cannot be") as caught:
        add(IndexStore(read_only), "b")
    assert "--index" in str(caught.value.hint)


@pytest.mark.parametrize("table", ["window", "window_text", "path", "content"])
def test_missing_table_is_damage_in_our_words(store: IndexStore, table: str) -> None:
    add(store, "a", "a cat")
    store._database.execute("PRAGMA foreign_keys = OFF")
    store._database.execute(f"DROP TABLE {table}")
    with pytest.raises(RecordError) as caught:
        _ = store.status(), store.contents(), notes(store, "cat")
    assert str(caught.value).endswith("is damaged")
    assert "delete it" in str(caught.value.hint)


def test_what_can_be_no_index_is_named(tmp_path: Path) -> None:
    for read_only in (True, False):
        with pytest.raises(RecordError, match="is a folder") as caught:
            IndexStore(tmp_path, read_only=read_only)
        assert "index.sqlite" in str(caught.value.hint)
        if os.name != "nt":
            with pytest.raises(RecordError, match="no index of smolvideo"):
                IndexStore(Path("/dev/null"), read_only=read_only)


def test_locked_index_names_the_reason(store: IndexStore) -> None:
    store._database.execute("PRAGMA busy_timeout = 1")
    with sqlite3.connect(store.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RecordError, match="another process holds the index") as caught:
            add(store, "a")
    assert "wait" in str(caught.value.hint)


def test_index_of_version_1_is_read_and_brought_up_to_date(store: IndexStore) -> None:
    add(store, "a", "a cat")
    store._database.execute("ALTER TABLE path DROP COLUMN subtitles")
    store._database.execute("DROP TABLE failure")
    store._database.execute("PRAGMA user_version = 1")
    store.close()
    with IndexStore(store.path, read_only=True) as reader:
        assert (notes(reader, "cat"), reader.subtitle_states()) == (["a cat"], {})
        assert reader.failures() == {}
    with IndexStore(store.path) as writer:
        assert writer.subtitle_states() == {"/videos/a.mp4": ""}
        add(writer, "b", "a dog")
    with IndexStore(store.path, read_only=True) as reader:
        assert len(reader.subtitle_states()) == 2


@pytest.mark.parametrize("content", [b"no database " * 99, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_other_file_is_one_error_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.sqlite"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="is no index of smolvideo"):
        IndexStore(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("times", ["[NaN]", "[]", "[1, null]", "{", "[1e999]"])
def test_impossible_values_are_one_error(store: IndexStore, times: str) -> None:
    add(store, "a", "a cat")
    store._database.execute("UPDATE window SET frame_times = ?", (times,))
    with pytest.raises(RecordError, match="is damaged"):
        notes(store, "cat")


def test_rebuild_mends_the_full_text_table(store: IndexStore) -> None:
    add(store, "a", "a cat")
    store._database.execute("INSERT INTO window_text (window_text) VALUES ('delete-all')")
    assert notes(store, "cat") == []
    store.rebuild_text()
    assert notes(store, "cat") == ["a cat"]
    store.vacuum()
    assert notes(store, "cat") == ["a cat"]
