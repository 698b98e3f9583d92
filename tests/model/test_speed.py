"""Faster and slower speech: the mel stretched before the vocoder, in windows as in one piece."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from chatterbox.api import PcmChunk, SlotIndex, SpokenWord, WordsTimed
from chatterbox.config import MEL_FRAMES_PER_TOKEN, SPEED, ModelConfig
from chatterbox.engine import ChatterboxEngine
from chatterbox.loading import load_engine
from chatterbox.progress import Part
from chatterbox.s3gen.noise import NoiseBuffers
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import FrameSchedule, frames_at
from tests.model.random_engine import CONFIG, random_engine, random_modules, segment, speak
from tests.model.recorded import RecordedGraphs
from tests.model.test_captured import crowded_engine

SPEEDS = (0.5, 0.83, 1.0, 1.27, 2.0)
TEXT = "streaming speech, one window after the other"
EXACT = replace(
    CONFIG,
    vocoder=replace(
        CONFIG.vocoder,
        left_context_frames=20,
        first_right_context_frames=20,
        right_context_frames=20,
    ),
)
SLOTS, SLOT, FRAMES = 3, 1, 190
COMMITS = [16, 32, 64, 112, 160, FRAMES]


def some_mel() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    rough = torch.randn(SLOTS, FRAMES + 8, 80, generator=generator)
    smooth = rough.unfold(1, 9, 1).mean(dim=-1) * 3
    return torch.nn.functional.pad(smooth, (0, 0, 0, 1))


def new_step(config: ModelConfig, *, speed: float) -> VocoderStep:
    _, _, vocoder = random_modules(config)
    step = VocoderStep(vocoder, NoiseBuffers(config), config, SLOTS)
    step.state.begin(SLOT, seed=11, speed=speed)
    return step


@torch.inference_mode()
def voiced(commits: list[int], *, speed: float, most: int = 10_000) -> Tensor:
    """The waveform of the mel that is committed in these steps."""
    step, schedule, mel = new_step(EXACT, speed=speed), FrameSchedule(EXACT.vocoder), some_mel()
    emitted = known = 0
    pieces = []
    for mel_frames in commits:
        committed = frames_at(mel_frames, speed=speed)
        finished = mel_frames == FRAMES
        while window := schedule.next_window(emitted, committed, finished=finished, most=most):
            assert window.frames <= most
            is_last = finished and window.emit_to == committed
            row = VocoderStep.plan_row(SLOT, window, known_f0=known, finished=is_last)
            wave = step(torch.tensor([(0, 0, 0, 0, 0), row]), mel, window.frames + 7)[1]
            start = 480 * (emitted - window.first)
            pieces.append(wave[start : start + 480 * (window.emit_to - emitted)])
            known = VocoderStep.f0_known_after(window.first + window.frames, finished=is_last)
            emitted = window.emit_to
    assert emitted == frames_at(FRAMES, speed=speed)
    return torch.cat(pieces)


@pytest.mark.parametrize("speed", SPEEDS)
def test_windows_are_the_whole_at_any_speed(speed: float) -> None:
    """A frame that two windows place differently would be a click, a phase that drifts a beat; and
    slow speech does not fit the largest window, so it is voiced in several.
    """
    whole = voiced([FRAMES], speed=speed)
    assert whole.std() > 0.01
    for streamed in (voiced(COMMITS, speed=speed), voiced([FRAMES], speed=speed, most=76)):
        assert streamed.shape == whole.shape
        assert (streamed - whole).abs().max() <= 1e-4 * whole.std()


@torch.inference_mode()
def test_frames_are_those_of_the_mel() -> None:
    """Bit for bit, each at speed 1: no parity with the reference is lost."""
    mel, slot, frame = some_mel(), torch.tensor([SLOT]), torch.arange(90)[None]
    for speed, expected in (
        (1.0, list(range(90))),
        (2.0, list(range(0, 180, 2))),
        (0.5, [index // 2 for index in range(90)]),
        (1.25, [5 * index // 4 for index in range(90)]),
    ):
        found = new_step(EXACT, speed=speed)._at_speed(mel, slot, frame)
        assert torch.equal(found[0], mel[SLOT, expected])


def num_samples(engine: ChatterboxEngine, speed: float) -> int:
    return len(speak(engine, 0, segment(1, TEXT, speed=speed)))


def test_speech_is_so_much_shorter_or_longer() -> None:
    """To the frame, before the silence at the ends is cut; and the next segment is not changed."""
    engine = random_engine()
    usual = num_samples(engine, 1.0)
    fresh = speak(random_engine(), 0, segment(1, TEXT))
    for speed in (0.5, 0.8, 2.0):
        assert abs(num_samples(engine, speed) * speed / usual - 1) < 0.05
    assert np.array_equal(speak(engine, 0, segment(1, TEXT)), fresh)


def test_neighbours_of_other_speeds_are_untouched() -> None:
    """A speed is a number of its slot, in one step with the others."""
    speeds = dict(enumerate((0.5, 1.0, 1.7)))
    alone = {
        slot: speak(random_engine(), slot, segment(slot, TEXT, speed=speed))
        for slot, speed in speeds.items()
    }
    engine = random_engine()
    for slot, speed in speeds.items():
        engine.start(SlotIndex(slot), segment(slot, TEXT, speed=speed))
    chunks: dict[int, list[np.ndarray[tuple[int], np.dtype[np.float32]]]] = {
        slot: [] for slot in speeds
    }
    active = set(speeds)
    while active:
        for event in engine.step([SlotIndex(slot) for slot in sorted(active)]):
            if isinstance(event, PcmChunk):
                chunks[event.segment_id].append(event.samples)
                if event.is_last:
                    active.remove(event.segment_id)
    for slot in speeds:
        assert np.array_equal(np.concatenate(chunks[slot]), alone[slot])


@pytest.mark.parametrize("lag", [0, 2])
def test_replayed_steps_and_a_host_that_runs_ahead_change_nothing(lag: int) -> None:
    """The speed is read from memory when a graph is replayed, not when it was captured."""
    captured = crowded_engine(CONFIG, backend=RecordedGraphs(), lag=lag, deterministic=True)
    captured.warm_up()
    plain = crowded_engine(CONFIG, backend=RecordedGraphs(), deterministic=True)
    plain.warm_up()
    for speed in (0.5, 1.6, 1.0):
        wanted = segment(1, "short text", speed=speed)
        assert np.array_equal(speak(captured, 1, wanted), speak(plain, 1, wanted))


def test_a_pause_of_slow_speech_is_no_runaway() -> None:
    """A second of silence lasts two at half the speed; the words after it must not be cut."""
    silence = np.zeros(24_000 * 2, np.float32)
    for speed, is_cut in ((1.0, True), (0.5, False)):
        part = Part([1], 100, 0, tokens=50, speed=speed)
        part.hear(silence)
        assert bool(part.tail) is is_cut


def spoken_words(engine: ChatterboxEngine, speed: float) -> tuple[list[SpokenWord], int]:
    """When each word of a sentence is heard, and the number of samples."""
    text = "The train leaves at nine, please be there early."
    engine.start(SlotIndex(0), segment(1, text, voice=engine.info.default_voice, speed=speed))
    words: list[SpokenWord] = []
    total = 0
    while True:
        for event in engine.step([SlotIndex(0)]):
            if isinstance(event, WordsTimed):
                words += event.words
            elif isinstance(event, PcmChunk):
                total += len(event.samples)
                if event.is_last:
                    engine.release(SlotIndex(0))
                    return words, total


def test_word_times_follow_the_speed() -> None:
    """A page would mark words ahead of fast speech: each lies where it lay, times the speed."""
    engine = load_engine(None, num_slots=1)
    assert SPEED in engine.info.options
    usual, _ = spoken_words(engine, 1.0)
    for speed in (0.6, 1.5):
        words, total = spoken_words(engine, speed)
        assert [(word.start, word.end) for word in words] == [(w.start, w.end) for w in usual]
        assert words[-1].end_sample == total
        for word, before in zip(words[1:-1], usual[1:-1], strict=True):
            # Silence at the beginning is cut in blocks of 5 ms, with 15 ms left before the sound.
            assert abs(word.start_sample * speed - before.start_sample) < 24 * 40


def test_slots_have_room_for_the_slowest_speech() -> None:
    """The longest generation at the lowest speed: one frame more would be written nowhere."""
    step = new_step(CONFIG, speed=SPEED.minimum)
    most = frames_at(CONFIG.t3.max_speech_tokens * MEL_FRAMES_PER_TOKEN, speed=SPEED.minimum)
    assert step.state.f0.shape[1] > most
