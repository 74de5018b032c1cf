"""A procedural video world: scenes of large plain objects, their frames, questions about them.

scene.py               a scene: its objects and events, and which scenes are held out
scene_sampler.py       random scenes of each split
looks.py               how a scene is drawn: shades, gradients, outlines, shadows
render.py              frames of a scene at any size and time, and mp4 files of it
question.py            one question with its right answer; its wordings, and which are held out
questions.py           all questions about a scene, with the right answers
grammar.py             wordings from grammar.toml: intents, forms, words
yes_no.py              yes-no questions about every fact, true and false
worded_questions.py    questions in the words of the grammar, and about what is absent
abstention.py          the answer to what no drawing shows
multiple_choice.py     the same questions with five options
training_questions.py  questions about one moment, or for it; look-ups that need no video
"""
