"""A simulated clock that advances at every call, for tests of time-dependent code."""

from dataclasses import dataclass


@dataclass
class StepClock:
    """A clock that advances by ``seconds`` at every call."""

    seconds: float
    now: float = 0.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now
