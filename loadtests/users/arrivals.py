"""When requests arrive if clients do not wait for each other's responses."""

import random
from collections.abc import Iterator


def poisson(rate: float, start: float, seed: float | str | None) -> Iterator[float]:
    """Yield the times of a Poisson process: `rate` arrivals a second on average, from `start` (seconds) on, for ever.

    Independent clients arrive like this: gaps are exponential, and past arrivals say nothing about the next one.
    The same seed gives the same arrivals; without a seed they differ each time.
    """
    if rate <= 0:
        raise ValueError(f"the rate must be above 0, not {rate}")
    chance = random.Random(seed)
    now = start
    while True:
        now += chance.expovariate(rate)
        yield now
