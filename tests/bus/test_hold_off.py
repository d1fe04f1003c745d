from __future__ import annotations

from federation.bus.amqp.hold_off import FIRST_SECONDS, LONGEST_SECONDS, HoldOff
from federation.testing.clock import ManualClock


def test_a_silent_queue_is_asked_ever_more_seldom_and_others_are_not_held():
    clock = ManualClock()
    held = HoldOff(clock.monotonic)
    for pause in (FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS):
        held.hold("silent")
        assert held.holds("silent")
        assert not held.holds("other")
        assert held.shortest() == pause
        clock.advance(pause)
        assert not held.holds("silent")
    for _ in range(20):
        held.hold("silent")
    assert held.shortest() == LONGEST_SECONDS


def test_when_everything_answers_again_the_first_pause_is_short_again():
    clock = ManualClock()
    held = HoldOff(clock.monotonic)
    held.hold("silent")
    held.hold("silent")
    held.clear()
    assert held.shortest() == 0.0
    held.hold("silent")
    assert held.shortest() == FIRST_SECONDS
