"""Whole = pieces: what leaves the flow and the vocoder in windows is what they give at once."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from chatterbox.config import ModelConfig
from chatterbox.s3gen.attention_blocks import PROMPT_BLOCK
from chatterbox.s3gen.flow_step import FlowStep
from chatterbox.s3gen.noise import NoiseBuffers
from chatterbox.s3gen.vocoder import build_fade_in
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import FrameSchedule, TokenSchedule, TokenWindow
from tests.model.random_engine import CONFIG, full_attention, random_modules, random_voice

SLOT, SLOTS, SEED = 1, 3, 4
UNBOUNDED = replace(CONFIG, flow=replace(CONFIG.flow, context_tokens=200))
"""Every window sees all tokens before it."""


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def _tokens(count: int, config: ModelConfig = CONFIG) -> Tensor:
    """Random speech tokens in slot 1, rubbish behind them."""
    generator = torch.Generator().manual_seed(7)
    longest = config.t3.max_speech_tokens + 1
    tokens = torch.randint(0, 6561, (SLOTS, longest), generator=generator)
    tokens[SLOT, count:] = 6561
    return tokens


def _flow_step(config: ModelConfig) -> FlowStep:
    _, flow, _ = random_modules(config)
    step = FlowStep(flow, NoiseBuffers(config), config, SLOTS)
    voice = random_voice(config)
    speaker = flow.project_speaker(voice.speaker)[0]
    step.state.begin(
        SLOT,
        tokens=voice.prompt_tokens[0],
        mel=voice.prompt_mel[0].T,
        speaker=speaker,
        seed=SEED,
    )
    return step


def _streamed_mel(config: ModelConfig, count: int, arrivals: list[int]) -> Tensor:
    """Committed mel [frames, bins] of `count` tokens that become available in the given
    portions.
    """
    step, schedule, tokens = _flow_step(config), TokenSchedule(config.flow), _tokens(count, config)
    committed = available = 0
    for portion in [*arrivals, count]:
        available = min(count, available + portion)
        while window := schedule.next_window(committed, available, finished=available == count):
            plan = torch.tensor([FlowStep.plan_row(SLOT, window), (SLOT, 0, 0, 0, 0)])
            capacity = config.flow.max_prompt_tokens + window.tokens
            step(plan, tokens, capacity)
            committed = window.committed
    return step.state.mel[SLOT, : 2 * count].clone()


def _whole_mel(config: ModelConfig, count: int) -> Tensor:
    """The same tokens in one call of the flow, by the definition of its inputs."""
    step, schedule, tokens = _flow_step(config), TokenSchedule(config.flow), _tokens(count, config)
    voice, flow = random_voice(config), step.flow
    prompt = voice.prompt_tokens.shape[1]
    whole = torch.cat([voice.prompt_tokens, tokens[SLOT : SLOT + 1, :count]], dim=1)
    blocks = [PROMPT_BLOCK] * prompt + [schedule.window_of(token) for token in range(count)]
    block = torch.tensor([blocks if config.flow.block_causal else [0] * len(blocks)])
    mu = flow.encode(whole, block)
    cond = torch.zeros_like(mu)
    cond[:, :, : 2 * prompt] = voice.prompt_mel.transpose(1, 2)
    noise = torch.cat(
        [
            step.noise.prompt[:, : 2 * prompt],
            step.noise.flow.roll(-int(step.state.noise_offset[SLOT]), dims=1)[:, : 2 * count],
        ],
        dim=1,
    )[None]
    frames = block.repeat_interleave(2, dim=1)
    speaker = flow.project_speaker(voice.speaker)
    mel = flow.solve(noise, frames, mu=mu, speaker=speaker, cond=cond)
    return mel[0, :, 2 * prompt :].T


@pytest.mark.parametrize("count", [3, 8, 9, 11, 60, 97])
def test_any_arrival_gives_the_same_mel(count: int) -> None:
    """Windows that depended on when tokens arrived would make audio depend on load."""
    at_once = _streamed_mel(CONFIG, count, [count])
    one_by_one = _streamed_mel(CONFIG, count, [1] * count)
    uneven = _streamed_mel(CONFIG, count, [5, 1, 13, 2, 40])
    assert torch.equal(at_once, one_by_one)
    assert torch.equal(at_once, uneven)


@pytest.mark.parametrize("count", [5, 8, 10, 33, 70])
def test_block_causal_windows_are_the_whole(count: int) -> None:
    """With all of the past as context, block-causal windows equal one call over everything."""
    whole = _whole_mel(UNBOUNDED, count)
    streamed = _streamed_mel(UNBOUNDED, count, [1] * count)
    assert (streamed - whole).abs().max() <= 1e-4 * whole.std()


def test_first_window_is_the_reference_call() -> None:
    """A window is, by definition, one call on its tokens; for one window also with full
    attention.
    """
    config = full_attention()
    whole, streamed = _whole_mel(config, 8), _streamed_mel(config, 8, [8])
    assert (streamed - whole).abs().max() <= 1e-4 * whole.std()


def _guided() -> ModelConfig:
    """As the base S3Gen: full attention, guidance, cosine times."""
    config = full_attention()
    return replace(config, flow=replace(config.flow, guidance=0.7, steps=3))


def _meanflow() -> ModelConfig:
    config = full_attention()
    return replace(config, flow=replace(config.flow, meanflow=True))


def _whole_prefix() -> ModelConfig:
    """Early windows see everything before them, later ones a bounded context."""
    config = _guided()
    return replace(config, flow=replace(config.flow, whole_prefix_tokens=60))


def _reference_call(config: ModelConfig, step: FlowStep, window: TokenWindow) -> Tensor:
    """Mel [frames, bins] of the new tokens of one window, by the definition: the reference's flow,
    called once on prompt and window, with the noise of their positions.
    """
    flow, schedule, voice = step.flow, TokenSchedule(config.flow), random_voice(config)
    prompt, seen = voice.prompt_tokens.shape[1], range(window.first, window.first + window.tokens)
    tokens = torch.cat([voice.prompt_tokens, _tokens(seen.stop, config)[SLOT : SLOT + 1, seen]], 1)
    blocks = [PROMPT_BLOCK] * prompt + [schedule.window_of(token) for token in seen]
    block = torch.tensor([blocks if config.flow.block_causal else [0] * len(blocks)])
    solved = prompt + window.context + window.new
    mu = flow.encode(tokens, block)[:, :, : 2 * solved]
    cond = torch.zeros_like(mu)
    cond[:, :, : 2 * prompt] = voice.prompt_mel.transpose(1, 2)
    position = torch.arange(2 * window.first, 2 * window.committed) + step.state.noise_offset[SLOT]
    own = step.noise.flow[:, position % config.noise_frames]
    noise = torch.cat([step.noise.prompt[:, : 2 * prompt], own], dim=1)[None]
    speaker = flow.project_speaker(voice.speaker)
    frames = block[:, :solved].repeat_interleave(2, dim=1)
    mel = flow.solve(noise, frames, mu=mu, speaker=speaker, cond=cond)
    return mel[0, :, 2 * (prompt + window.context) :].T


@pytest.mark.parametrize("count", [41, 97])
@pytest.mark.parametrize(
    "config",
    [CONFIG, full_attention(), _guided(), _meanflow(), _whole_prefix()],
    ids=["block-causal", "full", "guided", "meanflow", "whole-prefix"],
)
def test_every_window_is_its_reference_call(config: ModelConfig, count: int) -> None:
    """First windows, windows with a cut context and the last one: what is committed is what the one
    call gives that defines the window, whatever the padding and the row beside it.
    """
    committed = _streamed_mel(config, count, [1] * count)
    step, schedule, done = _flow_step(config), TokenSchedule(config.flow), 0
    contexts = set()
    while window := schedule.next_window(done, count, finished=True):
        expected = _reference_call(config, step, window)
        ours = committed[2 * done : 2 * window.committed]
        assert ours.shape == expected.shape
        assert (ours - expected).abs().max() <= 1e-4 * expected.std(), window
        done = window.committed
        contexts.add(window.context)
    assert done == count
    assert len(contexts) > 2


def test_bounded_context_is_an_approximation_of_the_whole() -> None:
    """Cutting the context changes later windows only, and by far less than another noise does."""
    streamed, whole = _streamed_mel(CONFIG, 70, [70]), _whole_mel(UNBOUNDED, 70)
    assert (streamed[:64] - whole[:64]).abs().max() <= 1e-4 * whole.std()
    difference = (streamed - whole).abs().mean()
    assert 0 < difference < 0.5 * (whole - whole.roll(1, dims=0)).abs().mean()


def _mel(frames: int) -> Tensor:
    """A smooth random mel [slots, frames, bins]: the predicted F0 moves and crosses the voicing
    threshold.
    """
    generator = torch.Generator().manual_seed(5)
    rough = torch.randn(SLOTS, frames + 8, 80, generator=generator)
    smooth = rough.unfold(1, 9, 1).mean(dim=-1) * 3
    return torch.nn.functional.pad(smooth, (0, 0, 0, 1))


def _vocoder_step(config: ModelConfig) -> VocoderStep:
    _, _, vocoder = random_modules(config)
    step = VocoderStep(vocoder, NoiseBuffers(config), config, SLOTS)
    step.state.begin(SLOT, seed=SEED)
    return step


def _streamed_wave(config: ModelConfig, mel: Tensor, commits: list[int]) -> Tensor:
    step, schedule = _vocoder_step(config), FrameSchedule(config.vocoder)
    emitted = known = 0
    pieces = []
    for committed in commits:
        finished = committed == commits[-1]
        window = schedule.next_window(emitted, committed, finished=finished)
        if window is None:
            continue
        row = VocoderStep.plan_row(SLOT, window, known_f0=known, finished=finished)
        plan = torch.tensor([(0, 0, 0, 0, 0), row])
        wave = step(plan, mel, window.frames + 7)[1]
        pieces.append(wave[480 * (emitted - window.first) : 480 * (window.emit_to - window.first)])
        known, emitted = VocoderStep.f0_known_after(committed, finished=finished), window.emit_to
    return torch.cat(pieces)


def _whole_wave(config: ModelConfig, mel: Tensor, frames: int) -> Tensor:
    return _streamed_wave(config, mel, [frames])


COMMITS = [16, 32, 64, 112, 160, 190]


def test_exact_vocoder_windows_are_the_whole() -> None:
    """With 20 frames of context to the right, joined windows are the waveform of the whole
    utterance.
    """
    exact = replace(
        CONFIG,
        vocoder=replace(
            CONFIG.vocoder,
            left_context_frames=20,
            first_right_context_frames=20,
            right_context_frames=20,
        ),
    )
    mel = _mel(190)
    whole, streamed = _whole_wave(exact, mel, 190), _streamed_wave(exact, mel, COMMITS)
    assert whole.shape == streamed.shape == (190 * 480,)
    assert whole.std() > 0.01
    assert (streamed - whole).abs().max() <= 1e-4 * whole.std()


def test_live_vocoder_windows_are_close_to_the_whole() -> None:
    """The contexts of live speech: 16 to the left, 8 then 12 to the right. No drift, no jump at a
    join.
    """
    mel = _mel(190)
    whole, streamed = _whole_wave(CONFIG, mel, 190), _streamed_wave(CONFIG, mel, COMMITS)
    error = (streamed - whole) / whole.std()
    assert error.square().mean().sqrt() <= 1e-2
    late = error[-48_000:]
    assert late.square().mean().sqrt() <= 1e-2, "an error that stays would be a phase that drifted"


def test_the_fade_in_is_heard_once() -> None:
    """Official voices start with 40 ms that fade in; a window that begins later must not fade."""
    faded = replace(CONFIG, vocoder=replace(CONFIG.vocoder, fade_in=True))
    mel = _mel(190)
    plain, ours = _streamed_wave(CONFIG, mel, COMMITS), _streamed_wave(faded, mel, COMMITS)
    gain = build_fade_in()[:-1]
    assert torch.equal(ours[: len(gain)], plain[: len(gain)] * gain)
    assert torch.equal(ours[len(gain) :], plain[len(gain) :])
    assert plain[:480].abs().max() > 0.01


def test_recomputed_f0_would_drift() -> None:
    """Guards the rule that F0 is stored: without it, the error at later windows is large."""
    mel = _mel(190)
    whole = _whole_wave(CONFIG, mel, 190)
    step, schedule = _vocoder_step(CONFIG), FrameSchedule(CONFIG.vocoder)
    emitted, pieces = 0, []
    for committed in COMMITS:
        finished = committed == COMMITS[-1]
        window = schedule.next_window(emitted, committed, finished=finished)
        assert window is not None
        plan = torch.tensor([VocoderStep.plan_row(SLOT, window, known_f0=0, finished=finished)])
        wave = step(plan, mel, window.frames)[0]
        pieces.append(wave[480 * (emitted - window.first) : 480 * (window.emit_to - window.first)])
        emitted = window.emit_to
    error = (torch.cat(pieces) - whole) / whole.std()
    assert error[-48_000:].square().mean().sqrt() > 0.05
