"""Samples sent and the time → how much unheard audio a listener holds. An estimate: the daemon
cannot hear. It assumes that playing starts with the first packet and halts only when dry.
"""

from chatterbox.api import SAMPLE_RATE


class PlaybackClock:
    """One context's listener. Times are seconds of one monotonic clock that the caller reads."""

    def __init__(self) -> None:
        self._origin_s: float | None = None
        self._num_sent = 0
        self.num_dry = 0
        """How often the listener had run dry when the next packet came."""
        self.last_gap_s = 0.0
        """How long it had been dry the last time."""

    @property
    def num_sent(self) -> int:
        return self._num_sent

    @property
    def origin_s(self) -> float | None:
        """When playing started, moved on by every time that the listener ran dry since."""
        return self._origin_s

    @property
    def dry_at_s(self) -> float | None:
        """When the listener will have heard all that was sent; None before the first packet."""
        return None if self._origin_s is None else self._origin_s + self._num_sent / SAMPLE_RATE

    def send(self, num_samples: int, *, now_s: float) -> None:
        dry_at_s = self.dry_at_s
        if dry_at_s is not None and dry_at_s < now_s:
            self.num_dry += 1
            self.last_gap_s = now_s - dry_at_s
        if dry_at_s is None or dry_at_s < now_s:
            self._origin_s = now_s - self._num_sent / SAMPLE_RATE
        self._num_sent += num_samples

    def lead_s(self, now_s: float) -> float:
        """Sent but unheard audio."""
        dry_at_s = self.dry_at_s
        return 0.0 if dry_at_s is None else max(0.0, dry_at_s - now_s)
