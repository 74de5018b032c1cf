"""Multiple-choice benchmarks: run a model on one, score it, compare runs, write reports.

datasets/        a benchmark's files → items
item.py          one question with its options and video names
video_folder.py  lookup of video files by benchmark names
videos.py        the video of an item: local folder or download
protocol/        prompts and answer extraction
settings.py      all that the answers of a run depend on
loader.py        frames of one clip, prefetched while the previous clip is evaluated
evaluator.py     the questions about one clip, on a shared prefix
run_folder.py    a run on disk: run.json, its lock and its checks
run_records.py   the records of a run
run.py           the run loop, new or resumed
outdated.py      answers about files whose content has changed since
ray_run.py       a run on a Ray cluster
shards.py        shards of a run for machines without a common cluster
suite.py         runs of a TOML file: models × benchmarks × settings
suite_table.py   the scores of a suite in one table
statistics.py    intervals clustered by video, bounds, paired tests
grouping.py      groups of items by their fields
scores.py        the scores of a run, by every group
comparison.py    paired comparison of two runs
power.py         the difference that a comparison can show
calibrate.py     calibration of choices on labelled questions
report_text.py   the sentences of reports
report_files.py  Markdown, CSV and one HTML file of a run
lmms_eval.py     the result files of lmms-eval
"""
