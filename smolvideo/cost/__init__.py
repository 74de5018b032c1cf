"""Cost of an answer before the work: seconds and memory, from operations and measured rates.

operations.py   operations and bytes of each stage, from a network's hyperparameters
rates.py        what this machine does per second, and what past answers took, as it is kept
measure.py      measures the rates
predict.py      all of them together, corrected by what past answers took
"""

from smolvideo.cost.measure import measure_rates, rates_for
from smolvideo.cost.operations import NumberFormat
from smolvideo.cost.predict import (
    ModelCost,
    Prediction,
    PromptSize,
    fitting_prompt,
    predict,
    predict_first_token,
    predict_uncorrected,
    uses_kernels,
)
from smolvideo.cost.rates import RateRequest, Rates, kept_rates, remember

__all__ = [
    "ModelCost",
    "NumberFormat",
    "Prediction",
    "PromptSize",
    "RateRequest",
    "Rates",
    "fitting_prompt",
    "kept_rates",
    "measure_rates",
    "predict",
    "predict_first_token",
    "predict_uncorrected",
    "rates_for",
    "remember",
    "uses_kernels",
]
