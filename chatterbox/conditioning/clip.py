"""What is done to a reference clip before any model hears it: checks, loudness, trimmed silence."""

import math

import pyloudnorm
import torch
from torch import Tensor
from torch.nn import functional

from chatterbox.api import SAMPLE_RATE
from chatterbox.config import ClipConfig
from chatterbox.voice import VoiceError

SILENCE_DB = 20.0
"""Quieter than the loudest moment by this much, the ends of a clip are silence."""
SILENT_PEAK = 1e-3
"""−60 dB of full scale; a clip that never gets louder holds no voice."""
_LEVEL_WINDOW = 2048
_LEVEL_HOP = 512


def accepted(clip: Tensor, config: ClipConfig) -> Tensor:
    """The clip [samples] at 24 kHz as the models are to hear it; raises `VoiceError` if no voice
    can come of it.
    """
    refuse_unfit(clip, config)
    return clip if config.loudness_lufs is None else at_loudness(clip, config.loudness_lufs)


def refuse_unfit(clip: Tensor, config: ClipConfig) -> None:
    """Raises `VoiceError`."""
    if clip.dim() != 1:
        raise VoiceError(f"a clip has one channel, not shape {tuple(clip.shape)}")
    if not clip.isfinite().all():
        raise VoiceError("the clip has samples that are not numbers")
    seconds = clip.shape[0] / SAMPLE_RATE
    if seconds <= config.min_s:
        raise VoiceError(
            f"the clip has {seconds:.1f} s without the silence at its ends; more than"
            f" {config.min_s:g} s are needed, and 10 to 20 s are best"
        )
    if clip.abs().max() < SILENT_PEAK:
        raise VoiceError("the clip is silent")


def at_loudness(clip: Tensor, lufs: float) -> Tensor:
    """The clip scaled to an integrated loudness (ITU-R BS.1770); unchanged if it has none."""
    measured = float(pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(clip.numpy()))
    gain = 10 ** ((lufs - measured) / 20) if math.isfinite(measured) else 1.0
    return clip * gain


def sound_span(wave: Tensor, below_db: float = SILENCE_DB) -> tuple[int, int]:
    """First and last sample (exclusive) of [samples] without the silence at its ends, in steps of
    512.
    """
    half = _LEVEL_WINDOW // 2
    frames = functional.pad(wave, (half, half)).unfold(0, _LEVEL_WINDOW, _LEVEL_HOP)
    level = frames.square().mean(dim=1).sqrt().clamp_min(1e-5)
    decibels = 20 * (level / level.max()).log10()
    loud = torch.nonzero(decibels > -below_db)[:, 0]
    first, last = int(loud[0]), int(loud[-1])
    return first * _LEVEL_HOP, min(wave.shape[0], (last + 1) * _LEVEL_HOP)
