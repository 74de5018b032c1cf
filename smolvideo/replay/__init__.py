"""Replay of records: the same frames, prompt and answer again, or the first difference.

comparison.py   differences in the order of the path of a video, and what a replay found
engines.py      the engine of a record, loaded again, and how it differs
sources.py      the sources of a record, found again by path or by name
answers.py      replay of answers (``ask --save``, ``--json``, ``chat --jsonl``)
evidence.py     replay of what ``--why`` and ``--check`` found
summaries.py    replay of summaries
eval_runs.py    replay of the answers of an eval run
record_file.py  a file of records, whatever their kind
"""

from smolvideo.replay.comparison import Difference, ReplayOptions, ReplayResult
from smolvideo.replay.record_file import open_replays

__all__ = ["Difference", "ReplayOptions", "ReplayResult", "open_replays"]
