"""Turns at a provider's rate, on a clock moved by hand."""

from __future__ import annotations

import pytest

from smartmem.errors import ConfigError
from smartmem.web.pace import Pacer


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_turns_are_spaced() -> None:
    time = Time()
    pacer = Pacer(2.0, monotonic=time.monotonic, sleep=time.sleep)
    assert [pacer.turn(10) for _ in range(3)] == [0, 0, 0]
    assert time.slept == [0.5, 0.5]


def test_a_long_wait_is_named_and_takes_no_turn() -> None:
    time = Time()
    pacer = Pacer(0.1, monotonic=time.monotonic, sleep=time.sleep)
    assert pacer.turn(1.5) == 0
    assert pacer.turn(1.5) == 10
    assert pacer.turn(1.5) == 10
    time.now += 9
    assert pacer.turn(1.5) == 0
    assert time.slept == [1.0]


def test_closed_until_the_time_that_the_provider_named() -> None:
    time = Time()
    pacer = Pacer(1000, monotonic=time.monotonic, sleep=time.sleep)
    pacer.close_for(7)
    pacer.close_for(3)  # a shorter word does not open it earlier
    assert pacer.turn(60) == 7
    time.now += 7
    assert pacer.turn(60) == 0


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_that_never_gives_a_turn_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="rate_per_s"):
        Pacer(rate)
