"""Batch summaries: map-reduce over video windows, with one JSON record per video.

worklist.py        command-line arguments → list of videos
watch_folder.py    videos that appear in watched folders
options.py         options of a summary, their settings key, and prompts
loader.py          a video → its frames, in threads that prefetch for the model (prefetch.py)
windows.py         shot changes; a long video cut into windows at them
summariser.py      the map-reduce over answers, and chapters
inference.py       prompts answered by an engine, up to the record
run.py             the run: load, answer, record, write (on a Ray cluster: ray_run.py)
dry_run.py         cost estimate of a run
record_log.py      the record of one video, and the file of all records
formats.py, outputs.py   the output files
api.py             the whole run in one call
"""

from smolvideo.summaries.api import OutputOptions, RunOptions, open_run, summarise
from smolvideo.summaries.options import Style, SummaryOptions
from smolvideo.summaries.outputs import FORMATS, SUFFIXES_BY_FORMAT
from smolvideo.summaries.record_log import Chapter, Note, SummaryRecord
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
