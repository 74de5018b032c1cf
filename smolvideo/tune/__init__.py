"""Fine-tuning on one's own clips: LoRA, QLoRA or in full, and alignment by preferences.

    lines → items, split by video → samples with frame features on disk → training → adapter

Frames are encoded once, by the engine that will answer, and the vision tower is never in the graph;
prompts are packed as ``ask`` packs them; only tokens of answers have a loss. A run is a function of
its data, options and seed: it resumes to the same bits.

options.py      what a run depends on
lines.py        data files: our own lines, messages, TRL's columns
vqa.py          VQAv2's own files
items.py        every line checked against its files; training and held-out videos
samples.py      token ids, targets and frame features of each item, kept in the run's folder
rehearsal.py    what the model can do already, mixed into each batch against forgetting
network.py      the network of transformers with peft's layers: logits of answers alone
scores.py       loss and exact match on held-out samples, and with grey frames
training.py     the loop: order, rate and dropout by (seed, step); states, best and last
output.py       adapter and merged checkpoint, written by rename
card.py         the model card: data, settings, curves, and what was lost beside what was gained
memory.py       predicted memory and time before anything is downloaded
preferences.py  DPO over the same features
plan.py         memory and time of a run from its data file and model
exam.py         an eval before and after
run.py          all of it together
"""
