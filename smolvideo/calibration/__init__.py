"""Calibration of probabilities: how far they can be trusted, and a scale that corrects them.

reliability.py  expected calibration error and reliability diagram of predictions
scale.py        the two-number scale of choices, fitted to labelled questions
store.py        scales on disk, by checkpoint and choices
"""

from smolvideo.calibration.reliability import Reliability, ReliabilityBin, reliability
from smolvideo.calibration.scale import IDENTITY, LabelledScores, Scale, cross_validated, fit_scale
from smolvideo.calibration.store import (
    Calibration,
    check_calibrations,
    keep_calibration,
    kept_calibration,
)

__all__ = [
    "IDENTITY",
    "Calibration",
    "LabelledScores",
    "Reliability",
    "ReliabilityBin",
    "Scale",
    "check_calibrations",
    "cross_validated",
    "fit_scale",
    "keep_calibration",
    "kept_calibration",
    "reliability",
]
