"""Multiple-choice benchmarks: the third use, and the one whose numbers others build on.

data/            a benchmark's files → items
videos.py        where the video of an item is
protocol/        how a question is asked, how its answer is read
settings.py      all that the answers of a run depend on
looking.py       frames of one video, decoded ahead of their turn
asking.py        its questions, asked on the frames that they share
run_folder.py    a run on disk
running.py       a run, from its beginning or from where it stopped
statistics.py    intervals clustered by video, bounds, paired tests
scores.py        the scores of a run, by every group
comparing.py     two runs on the same items
writing/         reports: markdown, csv, one html file, lmms-eval's files
"""
