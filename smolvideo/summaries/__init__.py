"""Summaries of many videos: whatever happens on the way, each has its record, once.

worklist.py    what was typed → the list of videos       watching.py   … as they appear
options.py     what is asked, and its key
looking.py     a video → its frames, in threads ahead of the model (ahead.py)
shots.py, windows.py     where the picture changes; a long video in windows that end there
wording.py, composing.py what is asked, and how answers become one summary (chapters.py)
asking.py      questions answered by an engine
batch.py       the run: looked at, answered, recorded, written
record.py, recording.py, journal.py   the line of one video, and the file of all of them
forms.py, page.py, names.py, publishing.py   the output files
running.py     all of it in one call
"""

from smolvideo.summaries.api import OutputOptions, RunOptions, open_run, summarise
from smolvideo.summaries.options import Style, SummaryOptions
from smolvideo.summaries.outputs import FORMATS, SUFFIXES_BY_FORMAT
from smolvideo.summaries.record import Chapter, Note, SummaryRecord
from smolvideo.summaries.run import ItemResult, ItemStatus, RunStats, SummaryRun
from smolvideo.summaries.watch_folder import watch
from smolvideo.summaries.worklist import Selection, WorkItem, list_items

__all__ = [
    "FORMATS",
    "SUFFIXES_BY_FORMAT",
    "Chapter",
    "ItemResult",
    "ItemStatus",
    "Note",
    "OutputOptions",
    "RunOptions",
    "RunStats",
    "Selection",
    "Style",
    "SummaryOptions",
    "SummaryRecord",
    "SummaryRun",
    "WorkItem",
    "list_items",
    "open_run",
    "summarise",
    "watch",
]
