"""Terminal output: progress, filmstrip, answer, footer, tables.

The only package that imports rich. It receives finished values and never works on videos or models
itself.
"""
