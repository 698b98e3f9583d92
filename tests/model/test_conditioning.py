"""Clips of any length become whole voices, unfit ones are refused, and the models load strictly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from chatterbox.api import SAMPLE_RATE
from chatterbox.checkpoint import CheckpointError
from chatterbox.conditioning.clip import accepted, sound_span
from chatterbox.conditioning.conditionals import Conditioner
from chatterbox.conditioning.loading import load_conditioner
from chatterbox.conditioning.speaker_encoder import SpeakerEncoder
from chatterbox.conditioning.speech_tokenizer import SpeechTokenizer
from chatterbox.conditioning.voice_encoder import WINDOW_FRAMES, VoiceEncoder, windows_of
from chatterbox.config import ClipConfig, ModelConfig
from chatterbox.variants import VARIANTS
from chatterbox.voice import VoiceError, load_voice, save_voice
from tests.model.random_engine import CONFIG

WIDE = replace(
    CONFIG,
    t3=replace(CONFIG.t3, prompt_tokens=40, speaker_channels=16),
    flow=replace(CONFIG.flow, max_prompt_tokens=60, speaker_channels=192),
)


def clip_of(num_samples: int) -> Tensor:
    """Something like a voice: harmonics of a moving pitch that swell and fade."""
    time = np.arange(num_samples) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time)) / SAMPLE_RATE
    wave = sum(np.sin(k * phase) / k for k in range(1, 12))
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 2.3 * time)
    return torch.from_numpy((0.05 * wave * swell).astype(np.float32))


def small_conditioner(config: ModelConfig = WIDE) -> Conditioner:
    torch.manual_seed(3)
    return Conditioner(
        config,
        tokenizer=SpeechTokenizer(channels=32, heads=2, blocks=1).eval(),
        speaker_encoder=SpeakerEncoder().eval(),
        voice_encoder=VoiceEncoder(16).eval(),
    )


@pytest.mark.parametrize("extra", [0, 1, 160, 240, 241, 480, 700, 720, 959])
def test_every_length_gives_whole_pairs(extra: int, tmp_path: Path) -> None:
    """A clip ends where it likes; tokens and mel of the prompt must end together, or the model
    refuses the voice later.
    """
    voice = small_conditioner().conditionals(clip_of(36_000 + extra))
    assert voice.prompt_mel.shape == (1, 2 * voice.prompt_tokens.shape[1], 80)
    assert 37 <= voice.prompt_tokens.shape[1] <= 39
    assert not voice.prompt_mel.requires_grad
    save_voice(tmp_path / "own.safetensors", voice)
    again = load_voice(tmp_path / "own.safetensors", WIDE)
    assert torch.equal(again.prompt_mel, voice.prompt_mel)
    assert torch.equal(again.t3_prompt, voice.t3_prompt)
    assert again.t3_prompt.dtype == torch.int64


def test_a_voice_stays_with_models_that_hear_alike(tmp_path: Path) -> None:
    """A voice of English fits into Turbo and sounds like nobody: sizes cannot tell."""
    path = tmp_path / "own.safetensors"
    voice = small_conditioner().conditionals(clip_of(36_000))
    turbo = replace(WIDE, name="turbo", clip=replace(WIDE.clip, loudness_lufs=-27.0))
    save_voice(path, voice, made_for=WIDE)
    load_voice(path, replace(WIDE, name="a sister of it"))
    with pytest.raises(VoiceError, match=r"made for .* again, with --model turbo"):
        load_voice(path, turbo)


def test_long_clips_are_cut_to_the_model() -> None:
    """Ten seconds for the flow and six or fifteen for T3 are what the tables of the models hold;
    the voice encoder hears the rest too.
    """
    conditioner, clip = small_conditioner(), clip_of(4 * SAMPLE_RATE)
    voice = conditioner.conditionals(clip)
    assert voice.prompt_tokens.shape == (1, 60)
    assert voice.t3_prompt.shape == (1, 40)
    shorter = conditioner.conditionals(clip[: 3 * SAMPLE_RATE])
    assert torch.equal(voice.prompt_tokens, shorter.prompt_tokens)
    assert not torch.equal(voice.t3_speaker, shorter.t3_speaker)


def _with_nan(clip: Tensor) -> Tensor:
    clip[100] = torch.nan
    return clip


@pytest.mark.parametrize(
    ("clip", "complaint"),
    [
        (clip_of(48_000)[None], "one channel"),
        (clip_of(24_000), "the clip has 1.0 s .*; more than 1 s"),
        (_with_nan(clip_of(48_000)), "not numbers"),
        (torch.zeros(48_000), "silent"),
        (1e-3 * clip_of(48_000), "silent"),
    ],
)
def test_unfit_clips_are_refused(clip: Tensor, complaint: str) -> None:
    """NaN or silence would go through all models and come out as a voice that speaks noise."""
    with pytest.raises(VoiceError, match=complaint):
        small_conditioner().conditionals(clip)


def test_turbo_wants_more_than_five_seconds_at_its_loudness() -> None:
    """As the reference: at exactly five seconds no, a sample later yes, and then at −27 LUFS."""
    config = VARIANTS["turbo"].clip
    with pytest.raises(VoiceError, match="more than 5 s"):
        accepted(clip_of(5 * SAMPLE_RATE), config)
    for gain in (0.1, 1.0):
        scaled = accepted(gain * clip_of(5 * SAMPLE_RATE + 1), config)
        measured = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(scaled.numpy())
        assert measured == pytest.approx(-27.0, abs=1e-3)


def test_a_clip_without_measurable_loudness_is_left() -> None:
    """A single click lies below the gate of the loudness measure; no gain may come of it."""
    clip = torch.zeros(2 * SAMPLE_RATE)
    clip[SAMPLE_RATE] = 2e-3
    assert torch.equal(accepted(clip, ClipConfig(loudness_lufs=-27.0)), clip)


def test_silence_around_the_sound_is_not_heard() -> None:
    """An embedding of silence would pull every voice towards the same speaker."""
    sound, quiet = clip_of(20_480), torch.zeros(10_240)
    first, last = sound_span(torch.cat([quiet, sound, quiet]))
    assert abs(first - 10_240) <= 2048
    assert abs(last - 30_720) <= 2048
    assert sound_span(sound) == (0, 20_480)


@pytest.mark.parametrize(
    ("frames", "windows"), [(1, 1), (159, 1), (160, 1), (204, 1), (205, 2), (281, 2), (282, 3)]
)
def test_windows_of_the_voice_encoder(frames: int, windows: int) -> None:
    """A last window counts when 128 of its 160 frames are filled; windows start every 77."""
    assert windows_of(torch.ones(40, frames), 77).shape == (windows, WINDOW_FRAMES, 40)


def _official_files(folder: Path) -> None:
    """Full-size models with random weights, beside parts that speak and are dropped."""
    torch.manual_seed(5)
    tokenizer = SpeechTokenizer().half()
    named = {f"tokenizer.{name}": tensor for name, tensor in tokenizer.state_dict().items()}
    named |= {
        f"speaker_encoder.{name}": tensor for name, tensor in SpeakerEncoder().state_dict().items()
    }
    dropped = ("tokenizer.window", "tokenizer._mel_filters", "flow.x", "mel2wav.y")
    save_file(named | {name: torch.ones(2) for name in dropped}, folder / "s3gen.safetensors")
    encoder = VoiceEncoder().state_dict() | {"similarity_weight": torch.ones(1)}
    save_file(encoder, folder / "ve.safetensors")


def test_the_models_load_strictly(tmp_path: Path) -> None:
    """Every tensor goes somewhere; one that is missing or unknown is named."""
    _official_files(tmp_path)
    config = VARIANTS["english"]
    voice = load_conditioner(tmp_path, config).conditionals(clip_of(30_000))
    assert voice.t3_speaker.shape == (1, config.t3.speaker_channels)
    assert voice.speaker.shape == (1, config.flow.speaker_channels)
    assert voice.speaker.isfinite().all()
    save_file({"lstm.weight_ih_l0": torch.ones(1024, 40)}, tmp_path / "ve.safetensors")
    with pytest.raises(CheckpointError, match=r"ve\.safetensors: tensor lstm\.\S+ is missing"):
        load_conditioner(tmp_path, config)
    save_file({"speech.x": torch.ones(1)}, tmp_path / "s3gen.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected tensor speech\.x"):
        load_conditioner(tmp_path, config)


def test_a_checkpoint_without_the_models_says_so(tmp_path: Path) -> None:
    """The bundled voice cannot clone; the reason must not be a missing tensor."""
    save_file({"flow.x": torch.ones(1)}, tmp_path / "s3gen.safetensors")
    with pytest.raises(CheckpointError, match="cannot clone a voice"):
        load_conditioner(tmp_path, CONFIG)
