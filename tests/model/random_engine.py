"""A tiny Chatterbox with random weights, built in memory: every mechanism of the real one in
milliseconds.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from chatterbox.api import PcmChunk, Segment, SegmentId, SlotIndex
from chatterbox.config import (
    SPEECH_CODES,
    FlowConfig,
    ModelConfig,
    SamplingConfig,
    T3Config,
    TextConfig,
    VocoderConfig,
)
from chatterbox.engine import ChatterboxEngine
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.t3.build import build_t3
from chatterbox.t3.predictor import TokenPredictor
from chatterbox.text.front_end import Encoded, TokenSpan
from chatterbox.voice import Voice

CONFIG = ModelConfig(
    name="random",
    default_voice="one",
    noise_frames=300,
    text=TextConfig(max_speech_per_text_token=3.0),
    t3=T3Config(
        layers=2,
        channels=32,
        heads=2,
        mlp_channels=64,
        positions=512,
        text_vocab=128,
        speaker_channels=8,
        prompt_tokens=7,
        max_text_tokens=64,
        max_speech_tokens=200,
    ),
    flow=FlowConfig(
        speaker_channels=8,
        encoder_channels=32,
        encoder_heads=2,
        encoder_mlp_channels=48,
        encoder_blocks=2,
        upsampled_blocks=1,
        estimator_channels=32,
        estimator_heads=2,
        estimator_head_channels=16,
        estimator_transformers=1,
        estimator_mid_stages=1,
        meanflow=False,
        steps=2,
        block_causal=True,
        context_tokens=16,
        max_prompt_tokens=10,
    ),
    vocoder=VocoderConfig(
        base_channels=32,
        upsample_rates=(4, 2),
        upsample_kernels=(8, 4),
        n_fft=240,
        hop=60,
        resblock_kernels=(3, 5),
        resblock_dilations=((1, 2), (1, 2)),
        source_resblock_kernels=(3, 3),
        source_resblock_dilations=((1,), (1,)),
        f0_channels=16,
        bounded_phase=False,
    ),
    sampling=SamplingConfig(temperature=0.8, top_k=50, top_p=0.95, repetition_penalty=1.2),
)

LLAMA = replace(
    CONFIG,
    t3=T3Config(
        backbone="llama",
        layers=2,
        channels=32,
        heads=2,
        mlp_channels=48,
        prompt_rows=3,
        resampler_heads=2,
        aligned_heads=((1, 0), (0, 1)),
        text_positions=70,
        speech_positions=210,
        text_vocab=130,
        start_text_token=128,
        stop_text_token=129,
        speech_vocab=6600,
        speaker_channels=8,
        prompt_tokens=7,
        max_text_tokens=64,
        max_speech_tokens=200,
    ),
)
"""The same with T3 as in English and Multilingual: guided, and with tokens above the codes."""


class Letters:
    """A front end for tests: one token a character."""

    separator: int | None = ord(" ")
    tags: Sequence[str] = ()
    phonemes = ""

    def encode(
        self,
        text: str,
        language: str | None = None,
        sounds: Mapping[str, str] | None = None,
    ) -> Encoded:
        text = "".join(char for char in text if ord(char) < 128)
        words = [TokenSpan((found.span(),), *found.span()) for found in re.finditer(r"\S+", text)]
        return Encoded([ord(char) for char in text], (), words=words)


def letters_of_tokens() -> NDArray[np.int16]:
    """A letter for each half of every speech token; the text of a random model names nothing."""
    letters = np.array([ord(char) for char in " abcdefghijklmnopqrstuvwxyz"], np.int16)
    return np.random.default_rng(7).choice(letters, (SPEECH_CODES, 2))


def random_modules(
    config: ModelConfig = CONFIG, seed: int = 1
) -> tuple[TokenPredictor, Flow, HiFT]:
    """T3, flow and vocoder with seeded weights; the vocoder speaks at an audible level, voiced and
    unvoiced.
    """
    torch.manual_seed(seed)
    t3, flow, vocoder = build_t3(config.t3), Flow(config.flow), HiFT(config.vocoder)
    with torch.no_grad():
        t3.speech_head.weight.mul_(12)
        vocoder.f0_predictor.classifier.weight.mul_(800)
        vocoder.f0_predictor.classifier.bias.fill_(60)
        assert vocoder.conv_post.bias is not None
        vocoder.conv_post.bias[: config.vocoder.n_fft // 2 + 1].fill_(1.0)
    vocoder.f0_predictor.double()
    return t3.eval(), flow.eval(), vocoder.eval()


def random_voice(config: ModelConfig = CONFIG, seed: int = 2) -> Voice:
    generator = torch.Generator().manual_seed(seed)
    prompt = config.flow.max_prompt_tokens - 2
    return Voice(
        t3_speaker=torch.randn(1, config.t3.speaker_channels, generator=generator),
        t3_prompt=torch.randint(0, 6561, (1, config.t3.prompt_tokens), generator=generator),
        prompt_tokens=torch.randint(0, 6561, (1, prompt), generator=generator),
        prompt_mel=torch.randn(1, 2 * prompt, config.flow.mel_bins, generator=generator),
        speaker=torch.randn(1, config.flow.speaker_channels, generator=generator),
    )


def random_engine(
    num_slots: int = 3,
    *,
    deterministic: bool = True,
    config: ModelConfig = CONFIG,
    named_tokens: bool = False,
) -> ChatterboxEngine:
    """With `named_tokens` it tells when each word is heard."""
    return ChatterboxEngine(
        config,
        *random_modules(config),
        voices={"one": random_voice(config), "two": random_voice(config, seed=3)},
        front_end=Letters(),
        num_slots=num_slots,
        token_phonemes=letters_of_tokens() if named_tokens else None,
        deterministic=deterministic,
    )


def full_attention() -> ModelConfig:
    return replace(CONFIG, flow=replace(CONFIG.flow, block_causal=False))


def segment(
    number: int, text: str, *, voice: str = "one", seed: int = 5, **options: float
) -> Segment:
    return Segment(id=SegmentId(number), text=text, voice=voice, seed=seed, options=options)


def speak(engine: ChatterboxEngine, slot: int, wanted: Segment) -> NDArray[np.float32]:
    """All samples of one segment, alone."""
    engine.start(SlotIndex(slot), wanted)
    chunks = []
    while True:
        for event in engine.step([SlotIndex(slot)]):
            if isinstance(event, PcmChunk):
                chunks.append(event.samples)
                if event.is_last:
                    engine.release(SlotIndex(slot))
                    return np.concatenate(chunks)
