"""The full-screen chat, drawn with Textual. What is said and kept is not here: ``conversation``.

app.py        the screen and its keys
asking.py     what happens to a line that was entered
work.py       the thread that looks, loads and answers, one job after the other
pictures.py   a picture in cells: half blocks, shades, or the terminal's own graphics
film.py       arithmetic: which frame stands where on the strip and on the time line
filmstrip.py  the strip of frames over their time line
frame.py      the frame under the cursor, large
talk.py       questions and answers
prompt.py     the line to type in, with completion and history
status.py     what is going on, and what it costs
overlays.py   help, history and the list of conversations
themes.py     colours
"""
