"""The engine: batched slots that do not feel each other, reuse that leaves no trace, seeds that
decide everything.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from chatterbox.api import (
    SAMPLE_RATE,
    EngineEvent,
    PcmChunk,
    Segment,
    SegmentFailed,
    SegmentWarning,
    SlotIndex,
    UnspeakableText,
)
from chatterbox.engine import ChatterboxEngine
from tests.model.random_engine import CONFIG, random_engine, segment, speak

Samples = NDArray[np.float32]
TEXT = "streaming speech, one window after the other"


def _together(
    engine: ChatterboxEngine, segments: dict[int, Segment], *, pause: Sequence[int] = ()
) -> dict[int, Samples]:
    """All segments at once, slot → samples; slots in `pause` step only every third time."""
    for slot, wanted in segments.items():
        engine.start(SlotIndex(slot), wanted)
    chunks: dict[int, list[Samples]] = {int(wanted.id): [] for wanted in segments.values()}
    active = set(segments)
    turn = 0
    while active:
        turn += 1
        slots = [SlotIndex(slot) for slot in sorted(active) if slot not in pause or turn % 3 == 0]
        for event in engine.step(slots):
            assert isinstance(event, PcmChunk | SegmentWarning)
            if isinstance(event, PcmChunk):
                chunks[event.segment_id].append(event.samples)
                if event.is_last:
                    slot = next(
                        s for s, wanted in segments.items() if wanted.id == event.segment_id
                    )
                    active.discard(slot)
                    engine.release(SlotIndex(slot))
    return {slot: np.concatenate(chunks[wanted.id]) for slot, wanted in segments.items()}


def test_same_text_voice_and_seed_give_the_same_samples() -> None:
    """Bit for bit, in any slot; another seed, voice, text or option gives others."""
    engine = random_engine()
    first = speak(engine, 0, segment(1, TEXT))
    assert len(first) > SAMPLE_RATE // 4
    assert np.array_equal(first, speak(engine, 2, segment(2, TEXT)))
    for other in (
        segment(3, TEXT, seed=6),
        segment(4, TEXT, voice="two"),
        segment(5, TEXT + " again"),
        segment(6, TEXT, temperature=0.0),
    ):
        assert not np.array_equal(first, speak(engine, 0, other))


def test_neighbours_are_untouched() -> None:
    """A batch row that leaked into another would make one user's speech depend on the next
    one's.
    """
    alone = speak(random_engine(), 1, segment(1, TEXT))
    engine = random_engine()
    together = _together(
        engine,
        {
            0: segment(2, "a neighbour with quite another and longer text to say", voice="two"),
            1: segment(1, TEXT),
            2: segment(3, "short", seed=9),
        },
    )
    assert np.array_equal(together[1], alone)


def test_pausing_changes_nothing() -> None:
    """A slot that waits for its listener keeps its state bit for bit while others step."""
    alone = speak(random_engine(), 0, segment(1, TEXT))
    engine = random_engine()
    segments = {0: segment(1, TEXT), 1: segment(2, "the one that does not pause", seed=3)}
    assert np.array_equal(_together(engine, segments, pause=[0])[0], alone)


def test_reset_slot_is_a_fresh_engine() -> None:
    """What the previous segment left in a slot would be heard as its last syllable."""
    fresh = speak(random_engine(), 0, segment(1, TEXT))
    used = random_engine()
    speak(used, 0, segment(2, "an earlier and much longer segment in the same slot", voice="two"))
    used.start(SlotIndex(0), segment(3, "cancelled in the middle", seed=8))
    for _ in range(14):
        used.step([SlotIndex(0)])
    used.release(SlotIndex(0))
    assert np.array_equal(fresh, speak(used, 0, segment(4, TEXT)))


def test_without_pinned_shapes_the_same_to_a_rounding() -> None:
    """Other batch sizes may round differently; equal tokens then give nearly equal samples."""
    alone = speak(random_engine(deterministic=False), 0, segment(1, TEXT, temperature=0.0))
    engine = random_engine(deterministic=False)
    neighbours = {
        0: segment(1, TEXT, temperature=0.0),
        2: segment(2, "a neighbour", temperature=0.0),
    }
    together = _together(engine, neighbours)[0]
    assert together.shape == alone.shape
    assert np.abs(together - alone).max() < 1e-3 * np.abs(alone).max()


def test_long_text_is_spoken_in_parts() -> None:
    """A segment that grows beyond the model's text window (numbers spelt out) is not lost."""
    words = " ".join(["word"] * 40)
    assert len(words) > CONFIG.t3.max_text_tokens
    long = speak(random_engine(), 0, segment(1, words))
    short = speak(random_engine(), 0, segment(1, words[:60]))
    assert len(long) > 2 * len(short)


def test_runaway_is_cut_with_a_warning() -> None:
    """A token predictor that never stops is cut at a length that the text bounds."""
    engine = random_engine()
    slot = SlotIndex(0)
    engine.start(slot, segment(1, "hi"))
    events: list[EngineEvent] = []
    for _ in range(200):
        events += engine.step([slot])
        if any(isinstance(event, PcmChunk) and event.is_last for event in events):
            break
    assert [event.code for event in events if isinstance(event, SegmentWarning)] == ["runaway_cut"]
    samples = sum(len(event.samples) for event in events if isinstance(event, PcmChunk))
    assert 0 < samples <= (20 + 3.0 * 2) * 960


def test_nothing_to_say_and_unknown_voice_are_errors_that_leave_the_slot_free() -> None:
    """An emoji alone, or a voice that is gone, ends that segment and nothing else."""
    engine = random_engine()
    with pytest.raises(UnspeakableText, match="nothing in"):
        engine.start(SlotIndex(0), segment(1, "你好"))
    with pytest.raises(UnspeakableText, match="no voice 'nobody'; there are one, two"):
        engine.start(SlotIndex(0), segment(2, "hello", voice="nobody"))
    assert len(speak(engine, 0, segment(3, "hello"))) > 0


def test_model_without_sound_fails_the_segment() -> None:
    """A stop at the very first step is reported, not passed off as an empty success."""
    engine = random_engine()
    bias = engine.stages.t3.model.speech_head.bias
    bias.requires_grad_(False)[CONFIG.t3.stop_speech_token] = 1e4
    engine.start(SlotIndex(0), segment(1, "hello"))
    events = [event for _ in range(3) for event in engine.step([SlotIndex(0)])]
    assert [type(event) for event in events] == [SegmentFailed]


def test_warm_up_leaves_every_slot_free_and_no_trace() -> None:
    """Warm-up speaks in every slot; what follows must sound as without it."""
    cold, warm = random_engine(), random_engine()
    warm.warm_up()
    assert np.array_equal(speak(cold, 2, segment(1, TEXT)), speak(warm, 2, segment(1, TEXT)))


def test_info_lists_what_a_client_may_ask_for() -> None:
    """Begin is made from this; a default voice that does not exist must not be announced."""
    info = random_engine().info
    assert (list(info.voices), info.default_voice, info.num_slots) == (["one", "two"], "one", 3)
    assert {option.name for option in info.options} == {
        "temperature",
        "top_k",
        "top_p",
        "repetition_penalty",
        "speed",
    }
    renamed = random_engine(config=replace(CONFIG, default_voice="gone"))
    assert renamed.info.default_voice in renamed.info.voices
