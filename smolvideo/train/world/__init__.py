"""The drawn world: scenes of large clear things, the frames that show them, questions about them.

A scene is a value (``scene``); ``draw`` shows it at any size and time; ``questions`` knows what can
be asked about it and the right answers; ``video`` writes it to an mp4 file.
"""
