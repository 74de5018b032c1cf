"""What a person sees in the terminal: progress, filmstrip, answer, footer, tables.

The only package that imports rich and textual_image. It is given finished values and never works
on videos or models itself. ``text`` and ``terminal`` import neither, so that errors and ``--help``
stay quick.
"""
