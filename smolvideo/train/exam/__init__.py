"""Evaluation of nano: held-out scenes as mp4 files, asked about like any video.

exam_videos.py  the videos and their questions
run.py          answers on disk, for resuming
evaluate.py     a checkpoint's answers, seeing and blind
scores.py       right answers and accuracies
"""
