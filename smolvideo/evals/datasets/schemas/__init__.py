"""One file for each benchmark: its published files, its prompts, its samples in lmms-eval."""
