"""A procedural video world: scenes of large plain objects, their frames, questions about them.

scene.py                   a scene: its objects and events, and which scenes are held out
scene_sampler.py           random scenes of each split
render.py                  frames of a scene at any size and time
video.py                   a scene as an mp4 file
question.py                one question with its right answer and its full response
question_templates.py      wordings of questions, and which of them are held out
questions.py               all questions about a scene, with the right answers
multiple_choice.py         the same questions with five options
single_frame_questions.py  questions about one moment, or for it
text_exercises.py          look-up exercises that need no video
corpus.py                  all of these texts, for the tokenizer
"""
