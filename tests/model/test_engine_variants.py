"""The engine does not care which backbone it speaks with: what holds for one, holds for both."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chatterbox.api import EngineEvent, PcmChunk, SegmentWarning, SlotIndex
from chatterbox.config import ConfigError, ModelConfig
from chatterbox.engine import ChatterboxEngine
from chatterbox.t3 import decoder as decoder_module
from chatterbox.t3.runaway import LOOP_S
from tests.model.random_engine import (
    CONFIG,
    LLAMA,
    Letters,
    random_engine,
    random_modules,
    random_voice,
    segment,
    speak,
)

TEXT = "Two rows of one slot."
BOTH = pytest.mark.parametrize("config", [CONFIG, LLAMA], ids=["gpt2", "llama"])


def _spoken(engine: ChatterboxEngine, *slots: SlotIndex) -> list[EngineEvent]:
    """All events of slots that were started, until each has spoken its last."""
    events: list[EngineEvent] = []
    left = set(slots)
    while left:
        for event in engine.step(sorted(left)):
            events.append(event)
            if isinstance(event, PcmChunk) and event.is_last:
                left.discard(slots[event.segment_id])
    return events


def test_guided_slots_do_not_disturb_each_other() -> None:
    """Pairs of rows beside each other, with options of their own: each slot's samples are those of
    the slot alone, bit for bit.
    """
    options = ({"cfg_weight": 0.0}, {"exaggeration": 1.7}, {"min_p": 0.4})
    wanted = [replace(segment(slot, TEXT), options=chosen) for slot, chosen in enumerate(options)]
    alone = [speak(random_engine(config=LLAMA), slot, wanted[slot]) for slot in range(3)]
    engine = random_engine(config=LLAMA)
    slots = [SlotIndex(slot) for slot in range(3)]
    for slot in slots:
        engine.start(slot, wanted[slot])
    events = _spoken(engine, *slots)
    for slot in slots:
        together = [
            event.samples
            for event in events
            if isinstance(event, PcmChunk) and event.segment_id == wanted[slot].id
        ]
        assert np.array_equal(np.concatenate(together), alone[slot])
    assert not np.array_equal(alone[0], alone[1])


def test_guided_long_text_is_spoken_in_parts_with_marks() -> None:
    """Start and stop stand around each part, and leave it room: a part that filled the table would
    read beyond it.
    """
    words = " ".join(["word"] * 30)
    assert len(words) > LLAMA.t3.max_spoken_tokens
    assert len(speak(random_engine(config=LLAMA), 0, segment(1, words))) > 0


@BOTH
def test_loop_is_cut_with_a_warning(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor that says three tokens over and over is cut long before the cap, and what it only
    repeated is not spoken as far as it is not out yet.
    """
    step = iter(range(10_000))
    monkeypatch.setattr(
        decoder_module, "draw", lambda *_: torch.tensor([40 + next(step) % 3], device="cpu")
    )
    engine, slot = random_engine(1, config=config), SlotIndex(0)
    engine.start(slot, segment(0, "a text that would allow for a great many tokens of speech"))
    events = _spoken(engine, slot)
    warnings = [event.code for event in events if isinstance(event, SegmentWarning)]
    assert warnings == ["runaway_cut"]
    seconds = sum(len(e.samples) for e in events if isinstance(e, PcmChunk)) / 24_000
    assert 0 < seconds <= LOOP_S + 0.1
    assert next(step) <= 25 * LOOP_S + 5


def test_closing_tokens_are_spoken_after_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turbo's reference puts three tokens of silence behind each generation, which the last
    windows see; the engine commits them as well.
    """
    closing = replace(CONFIG, t3=replace(CONFIG.t3, closing_tokens=(4299, 4298)))
    stop = CONFIG.t3.stop_speech_token
    lengths = []
    for config in (CONFIG, closing):
        draws = iter([*range(100, 120), stop])
        monkeypatch.setattr(decoder_module, "draw", lambda *_: torch.tensor([next(draws)]))  # noqa: B023
        engine, slot = random_engine(1, config=config), SlotIndex(0)
        engine.start(slot, segment(0, TEXT))
        part = engine._busy(0).part
        _spoken(engine, slot)
        lengths.append(part.committed_tokens)
        tokens = engine.stages.t3.state.tokens[0, : part.tokens].tolist()
        assert tokens == [*range(100, 120), *config.t3.closing_tokens]
    assert lengths == [20, 22]


def test_alignment_can_be_watched() -> None:
    """The analyzer of the old reference is an option of the engine: several slots, each with its
    own; a model without aligned heads says so.
    """
    config = replace(LLAMA, t3=replace(LLAMA.t3, max_speech_tokens=60))

    def engine(config: ModelConfig) -> ChatterboxEngine:
        return ChatterboxEngine(
            config,
            *random_modules(config),
            voices={"one": random_voice(config)},
            front_end=Letters(),
            num_slots=2,
            watch_alignment=True,
        )

    watching = engine(config)
    slots = [SlotIndex(0), SlotIndex(1)]
    for slot in slots:
        watching.start(slot, segment(slot, TEXT, seed=slot))
    assert sum(len(e.samples) for e in _spoken(watching, *slots) if isinstance(e, PcmChunk)) > 0
    with pytest.raises(ConfigError, match=r"no t3\.aligned_heads"):
        engine(CONFIG)
