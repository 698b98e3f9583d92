"""PlaybackClock: how much a listener still has, by a clock set by hand."""

import pytest

from daemon.speaking.playback import PlaybackClock


def test_before_the_first_packet_nobody_plays() -> None:
    """A deadline before any sound would let pacing start too early."""
    clock = PlaybackClock()
    assert clock.dry_at_s is None
    assert clock.origin_s is None
    assert clock.lead_s(5.0) == 0.0


def test_the_lead_grows_with_packets_and_shrinks_with_time() -> None:
    """A lead that is off by the packet in hand would break the limit by 20 ms each time."""
    clock = PlaybackClock()
    clock.send(24_000, now_s=10.0)
    clock.send(12_000, now_s=10.2)
    assert clock.origin_s == 10.0
    assert clock.dry_at_s == 11.5
    assert clock.lead_s(10.5) == pytest.approx(1.0)
    assert clock.lead_s(99.0) == 0.0
    assert clock.num_sent == 36_000


def test_running_dry_moves_the_origin() -> None:
    """After a gap the listener plays later; without that the lead would look too short for ever."""
    clock = PlaybackClock()
    clock.send(24_000, now_s=10.0)
    clock.send(24_000, now_s=14.0)  # dry since 11.0
    assert clock.origin_s == pytest.approx(13.0)
    assert clock.dry_at_s == pytest.approx(15.0)
    assert clock.lead_s(14.5) == pytest.approx(0.5)
