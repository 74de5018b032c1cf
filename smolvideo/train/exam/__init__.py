"""The exam: held-out worlds as mp4 files, asked about the way any video is.

options.py  which exam: how many videos, from which seed
paper.py    which videos are shown and what is asked about them
sitting.py  a checkpoint answers, seeing and blind
scores.py   what the answers are worth
"""
