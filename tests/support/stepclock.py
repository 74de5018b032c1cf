"""A clock that goes on by being asked: what depends on time is the same on every machine."""

from dataclasses import dataclass


@dataclass
class StepClock:
    """Tells ``seconds`` more at every call."""

    seconds: float
    now: float = 0.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now
