"""Voices that come and go while the engine speaks, on a CPU and where every step is captured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chatterbox.api import CloningEngine, PcmChunk, SlotIndex, UnspeakableText, VoiceUnfit
from chatterbox.device.backend import Backend
from chatterbox.engine import ChatterboxEngine
from chatterbox.voice import Voice, save_voice
from tests.model.random_engine import (
    CONFIG,
    Letters,
    random_engine,
    random_modules,
    random_voice,
    segment,
    speak,
)
from tests.model.recorded import RecordedGraphs

TEXT = "a voice of one's own"


def engine_with(voices: dict[str, Voice], backend: Backend | None = None) -> ChatterboxEngine:
    return ChatterboxEngine(
        CONFIG,
        *random_modules(),
        voices=voices,
        front_end=Letters(),
        num_slots=2,
        deterministic=True,
        backend=backend,
    )


def shorter() -> Voice:
    """Prompts of other lengths than the voices that the engine was built with."""
    voice = random_voice(seed=9)
    return replace(
        voice,
        t3_prompt=voice.t3_prompt[:, :-2],
        prompt_tokens=voice.prompt_tokens[:, :-3],
        prompt_mel=voice.prompt_mel[:, :-6],
    )


@pytest.mark.parametrize("is_captured", [False, True])
@pytest.mark.parametrize("voice", [random_voice(seed=8), shorter()], ids=["usual", "shorter"])
def test_a_voice_that_comes_later_sounds_as_one_from_the_start(
    voice: Voice, is_captured: bool, tmp_path: Path
) -> None:
    """A prompt of a new length must find a prefill, also where the others are captured, and leave
    what was captured as it is."""
    backend = RecordedGraphs() if is_captured else None
    save_voice(tmp_path / "own.safetensors", voice)
    first = speak(engine_with({"own": voice}), 0, segment(1, TEXT, voice="own"))
    engine = engine_with({"one": random_voice()}, backend)
    engine.warm_up()
    before = speak(engine, 0, segment(2, TEXT))
    engine.add_voice("own", tmp_path / "own.safetensors")
    assert np.array_equal(speak(engine, 1, segment(3, TEXT, voice="own")), first)
    assert np.array_equal(speak(engine, 0, segment(4, TEXT)), before)
    engine.remove_voice("own")
    with pytest.raises(UnspeakableText, match="no voice 'own'"):
        engine.start(SlotIndex(0), segment(5, TEXT, voice="own"))


def test_who_speaks_does_not_notice(tmp_path: Path) -> None:
    """Added and removed between two steps of a neighbour."""
    save_voice(tmp_path / "own.safetensors", shorter())
    alone = speak(random_engine(), 0, segment(1, TEXT))
    engine = random_engine()
    engine.start(SlotIndex(0), segment(1, TEXT))
    heard: list[NDArray[np.float32]] = []
    num_steps, is_last = 0, False
    while not is_last:
        num_steps += 1
        if num_steps == 3:
            engine.add_voice("own", tmp_path / "own.safetensors")
        if num_steps == 6:
            engine.remove_voice("own")
        for event in engine.step([SlotIndex(0)]):
            if isinstance(event, PcmChunk):
                heard.append(event.samples)
                is_last = event.is_last
    assert num_steps > 6
    assert np.array_equal(np.concatenate(heard), alone)


def test_an_unfit_file_changes_nothing(tmp_path: Path) -> None:
    """A voice of another model, half a file, no file: the daemon tells its client which."""
    engine = random_engine()
    assert isinstance(engine, CloningEngine)
    other = replace(random_voice(), speaker=random_voice().speaker[:, :-1])
    save_voice(tmp_path / "other.safetensors", other)
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes()[:500])
    for name, why in (("other", "channels"), ("half", "not a whole"), ("missing", "missing")):
        with pytest.raises(VoiceUnfit, match=why):
            engine.add_voice("own", tmp_path / f"{name}.safetensors")
    assert engine.info.voices == ["one", "two"]
