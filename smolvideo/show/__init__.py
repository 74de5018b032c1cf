"""What a person sees in the terminal: progress, filmstrip, answer, footer, tables.

The only package that imports rich. It is given finished values and never works on videos or models
itself.
"""
