"""The index file: versions, damage, search with hostile words, sharing between processes."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvideo.errors import RecordError
from smolvideo.index.claims import is_alive, this_process
from smolvideo.index.entries import IndexedWindow
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
