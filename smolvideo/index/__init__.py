"""An index over videos, and search in it: notes, text on screen and subtitles of short windows.

options.py       windows of an index, and the questions whose answers are its notes
database.py      the index file (SQLite); window_search.py: its windows; store.py: its videos
entries.py       what the file holds; search_types.py: what is searched
build.py         the run that fills it; claims.py: which process indexes a video
window_notes.py  what the model says of each window; ray_run.py: asked by workers of a cluster
subtitle_files.py  subtitles, and the state of the file that they are from
named_paths.py   files of the index that sources mean
text_query.py    the words of a query → a full-text expression
text_match.py    how much of a query the texts of a window say
query_checks.py  what the model is asked about the frames of a window; nano_checks.py: of nano
frame_scores.py  frames of a window decoded again, and scores given some of them
confirm.py       the probability of a candidate, and the moment in it
merge.py         moments that touch → hits
search.py        the search as a whole
scope.py         what is searched: the index, or sources that are scanned
hits.py          hits and the result of a search
export.py        hits as CSV, EDL, M3U and HTML; pictures.py: their pictures
"""

from smolvideo.index.database import default_index_path
from smolvideo.index.hits import Hit, SearchResult
from smolvideo.index.options import IndexOptions
from smolvideo.index.scope import SearchScope, open_scope
from smolvideo.index.search import SearchOptions, VideoSearch
from smolvideo.index.store import IndexStore

__all__ = [
    "Hit",
    "IndexOptions",
    "IndexStore",
    "SearchOptions",
    "SearchResult",
    "SearchScope",
    "VideoSearch",
    "default_index_path",
    "open_scope",
]
