"""The full-screen chat (Textual): widgets only, the model is in ``conversation``.

app.py              the app: widgets, key bindings, cursor
controller.py       input lines → jobs → updates of the screen
job_queue.py        the worker thread that runs one job at a time
image_view.py       images in character cells: half blocks, shades, kitty or sixel graphics
filmstrip.py        thumbnail strip over a time line
transcript_view.py  questions and answers
input_line.py       input line with completion and history
status.py           progress line, and status line with context and speed
dialogs.py          modal dialogs: help, history, conversation list
"""
