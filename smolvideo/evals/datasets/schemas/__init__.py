"""One file for each further benchmark: its published files, its prompt, its name in lmms-eval."""
