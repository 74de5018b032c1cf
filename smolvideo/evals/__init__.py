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
run.py           the run loop, new or resumed; answers whose video or subtitles have changed
statistics.py    intervals clustered by video, bounds, paired tests
scores.py        the scores of a run, by every group; paired comparison of two
report_text.py   the sentences of reports
report_files.py  Markdown, CSV and one HTML file of a run
lmms_eval.py     the result files of lmms-eval
"""
