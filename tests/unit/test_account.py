"""The account of one context: first audio, whose fault a gap was, and the line of the log."""

from daemon.speaking.account import Account, Outcome
from daemon.speaking.playback import PlaybackClock

RATE = 24_000


class Listening:
    """Text and packets by the clock."""

    def __init__(self) -> None:
        self.account = Account(voice="v", audio_format="opus")
        self.clock = PlaybackClock()
        self.num_segments = 0

    def text(self, now_s: float) -> None:
        """One whole segment is written, and goes to the engine."""
        self.account.note_text(10, now_s=now_s)
        self.account.note_segments(1, now_s=now_s)

    def begin(self) -> None:
        self.account.note_begun(segment=self.num_segments, sample=self.clock.num_sent)
        self.num_segments += 1

    def packet(self, now_s: float, *, audio_s: float = 1.0) -> None:
        self.clock.send(round(audio_s * RATE), now_s=now_s)
        self.account.note_sent(self.clock, now_s=now_s)

    def gaps(self) -> tuple[int, int]:
        summary = self.account.close(Outcome.COMPLETE, audio_s=0)
        return summary.num_underruns, summary.num_late_texts


def test_first_audio_counts_from_the_first_text() -> None:
    """An empty text, or the note that a segment begins, is neither text nor audio."""
    heard = Listening()
    heard.account.note_text(0, now_s=5.0)
    heard.text(10.0)
    heard.begin()
    heard.account.note_sent(heard.clock, now_s=10.1)
    heard.packet(10.25)
    heard.packet(10.3)
    summary = heard.account.close(Outcome.COMPLETE, audio_s=2.0)
    assert summary.first_audio_s == 0.25
    assert heard.gaps() == (0, 0)


def test_a_gap_inside_a_segment_is_the_engines() -> None:
    """The text was there: whoever hears a gap hears a machine that is too slow."""
    heard = Listening()
    heard.text(0.0)
    heard.begin()
    heard.packet(1.0)
    heard.packet(2.3)
    summary = heard.account.close(Outcome.COMPLETE, audio_s=2.0)
    assert (summary.num_underruns, summary.num_late_texts) == (1, 0)
    assert abs(summary.underrun_s - 0.3) < 1e-6


def test_a_gap_before_late_text_is_the_writers() -> None:
    """A language model that thinks for a second must not wake an operator."""
    heard = Listening()
    heard.text(0.0)
    heard.begin()
    heard.packet(1.0)
    heard.text(3.0)
    heard.begin()
    heard.packet(3.2)
    assert heard.gaps() == (0, 1)


def test_text_that_came_in_time_makes_a_gap_the_engines() -> None:
    """The second segment was written long before the first had been heard."""
    heard = Listening()
    heard.text(0.0)
    heard.text(0.1)
    heard.begin()
    heard.packet(1.0)
    heard.begin()
    heard.packet(2.5)
    assert heard.gaps() == (1, 0)


def test_a_tiny_gap_is_none() -> None:
    """Players buffer; counting scheduling noise would hide the real gaps."""
    heard = Listening()
    heard.text(0.0)
    heard.begin()
    heard.packet(1.0)
    heard.packet(2.01)
    assert heard.gaps() == (0, 0)


def test_a_failed_segment_does_not_shift_the_blame() -> None:
    """A segment that never begins has no sample to be found by."""
    heard = Listening()
    heard.text(0.0)
    heard.begin()
    heard.packet(1.0)
    heard.text(1.1)
    heard.account.note_failed_segment()
    heard.num_segments += 1
    heard.text(3.0)
    heard.begin()
    heard.packet(3.1)
    summary = heard.account.close(Outcome.COMPLETE, audio_s=2.0)
    assert (summary.num_underruns, summary.num_late_texts) == (0, 1)
    assert summary.num_failed_segments == 1


def test_the_line_of_the_log_leaves_out_what_is_zero() -> None:
    """One line an utterance is read by people."""
    summary = Account(voice="v", audio_format="opus").close(Outcome.GONE, audio_s=0.0)
    assert summary.fields() == {"voice": "v", "format": "opus"}
