"""The full-screen chat (Textual): widgets only, the model is in ``conversation``.

app.py              the app: widgets, key bindings, cursor
chat_screen.py      interface of the app that the controller needs
controller.py       input lines → jobs → updates of the screen
job_queue.py        the worker thread that runs one job at a time
image_view.py       images in character cells: half blocks, shades, kitty or sixel graphics
strip_layout.py     geometry of the filmstrip and the time line
filmstrip.py        thumbnail strip over a time line
frame_view.py       the frame under the cursor, large
transcript_view.py  questions and answers
input_line.py       input line with completion and history
status.py           progress line, and status line with context and speed
dialogs.py          modal dialogs: help, history, conversation list
safety.py           filter of terminal control characters
themes.py           colours
"""
