"""SineEngine: it keeps the engine contract, so that what is tested with it holds for a model."""

import numpy as np
import pytest

from chatterbox.api import PcmChunk, Segment, SegmentId, SlotIndex, UnspeakableText, WordsTimed
from chatterbox.sine import SAMPLES_PER_CHAR, SineEngine

SLOT = SlotIndex(0)


def segment(number: int = 1, text: str = "Hello there", **fields: object) -> Segment:
    return Segment(id=SegmentId(number), text=text, voice="sine", **fields)  # type: ignore[arg-type]


def speak(engine: SineEngine, item: Segment, slot: SlotIndex = SLOT) -> np.ndarray:
    engine.start(slot, item)
    pieces = []
    while True:
        (chunk,) = engine.step([slot])
        assert isinstance(chunk, PcmChunk)
        assert chunk.segment_id == item.id
        pieces.append(chunk.samples)
        if chunk.is_last:
            engine.release(slot)
            return np.concatenate(pieces)


def test_whole_equals_pieces() -> None:
    """A phase that restarts at each step would click, and make audio depend on the step size."""
    small = speak(SineEngine(samples_per_step=777), segment())
    large = speak(SineEngine(samples_per_step=100_000), segment())
    assert small.dtype == np.float32
    assert small.size == len("Hello there") * SAMPLES_PER_CHAR
    np.testing.assert_array_equal(small, large)


def test_neighbours_do_not_matter_and_paused_slots_stay() -> None:
    """The daemon pauses slots at will; that must not be audible."""
    alone = speak(SineEngine(samples_per_step=1000), segment(1))
    engine = SineEngine(samples_per_step=1000)
    other = SlotIndex(3)
    engine.start(SLOT, segment(1))
    engine.start(other, segment(2, "Another text altogether", seed=9))
    pieces = []
    for turn in range(100):
        slots = [SLOT, other] if turn % 3 else [other]
        for event in engine.step(slots):
            assert isinstance(event, PcmChunk)
            if event.segment_id == 1:
                pieces.append(event.samples)
        if sum(piece.size for piece in pieces) >= alone.size:
            break
    np.testing.assert_array_equal(np.concatenate(pieces), alone)


def test_every_word_is_told_before_its_sound() -> None:
    """Clients' highlighting is tried on this engine: words must be where the text says."""
    text = "Hello – there, you."
    (event,) = SineEngine().start(SLOT, segment(text=text))
    assert isinstance(event, WordsTimed)
    per_char = SAMPLES_PER_CHAR
    assert [(text[w.start : w.end], w.start_sample, w.end_sample) for w in event.words] == [
        ("Hello", 0, 5 * per_char),
        ("there,", 8 * per_char, 14 * per_char),
        ("you.", 15 * per_char, 19 * per_char),
    ]


def test_voice_and_seed_choose_the_pitch() -> None:
    """If all sounded alike, a mix-up of contexts would pass every test."""
    engine = SineEngine()
    first, again, other = (
        speak(engine, segment(number, seed=seed)) for number, seed in ((1, 1), (2, 1), (3, 2))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_speed_shortens() -> None:
    """The option in `info` must do something."""
    plain = speak(SineEngine(), segment())
    fast = speak(SineEngine(), segment(options={"speed": 2.0}))
    assert fast.size == plain.size // 2


def test_what_holds_no_word_is_unspeakable_and_leaves_the_slot_free() -> None:
    """The contract: an exception out of `start` leaves the slot free."""
    engine = SineEngine()
    with pytest.raises(UnspeakableText):
        engine.start(SLOT, segment(text="😀!?"))
    assert speak(engine, segment()).size


def test_misuse_is_caught() -> None:
    """A daemon that steps finished slots or starts busy ones would corrupt a real engine."""
    engine = SineEngine(num_slots=1, samples_per_step=10**6)
    engine.start(SLOT, segment())
    with pytest.raises(AssertionError):
        engine.start(SLOT, segment(2))
    with pytest.raises(AssertionError):
        engine.start(SlotIndex(1), segment(3))
    engine.step([SLOT])
    with pytest.raises(AssertionError):
        engine.step([SLOT])
    engine.release(SLOT)
    with pytest.raises(KeyError):
        engine.release(SLOT)


def test_sizes_are_checked() -> None:
    """A step of nothing would never end."""
    with pytest.raises(ValueError, match="samples in a step"):
        SineEngine(samples_per_step=0)
