"""The drawn world: scenes of large clear things, the frames that show them, questions about them.

scene.py      a scene: what is there, when and where, and which scenes training never shows
lots.py       random scenes, on either side of that line
draw.py       a scene at any size and time, as pixels
video.py      a scene as an mp4 file
wordings.py   in which words things are asked, and which of these training never hears
question.py   one question with its right answer, and what is said to it
questions.py  what can be asked about a scene, and the right answers
choices.py    the same with five options
corpus.py     all of these texts, for the tokenizer
"""
