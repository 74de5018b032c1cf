"""A procedural video world: scenes of large plain objects, their frames, questions about them.

scene.py               a scene: its objects and events, and which scenes are held out
scene_sampler.py       random scenes of each split
render.py              frames of a scene at any size and time, and mp4 files of it
question.py            one question with its right answer; its wordings, and which are held out
questions.py           all questions about a scene, with the right answers
multiple_choice.py     the same questions with five options
training_questions.py  questions about one moment, or for it; look-ups that need no video
"""
