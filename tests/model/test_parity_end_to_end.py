"""A file of a clip and speech tokens become the reference's conditionals, mel and waveform."""

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
import soundfile
import torch
from torch import Tensor

from chatterbox.api import SAMPLE_RATE
from chatterbox.conditioning.audio_file import decode_clip
from chatterbox.conditioning.conditionals import Conditioner
from chatterbox.conditioning.mel import prompt_log_mel
from chatterbox.conditioning.speaker_encoder import SpeakerEncoder
from chatterbox.conditioning.voice_encoder import VoiceEncoder
from chatterbox.config import MEL_FRAMES_PER_TOKEN, ModelConfig, T3Config
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import build_fade_in
from chatterbox.voice import Voice
from tests.model.every_array import assert_every_array
from tests.model.parity import Group, seed_module
from tests.model.test_parity_flow import BASE
from tests.model.test_parity_speech_tokenizer import build_tokenizer
from tests.model.test_parity_vocoder import build_vocoder, summed_in_float32

CONFIG = ModelConfig(name="english", t3=replace(T3Config(), prompt_tokens=150), flow=BASE)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def conditioner() -> Conditioner:
    speaker_encoder, voice_encoder = SpeakerEncoder(), VoiceEncoder()
    seed_module(speaker_encoder, prefix="speaker_encoder.")
    seed_module(voice_encoder)
    return Conditioner(
        CONFIG,
        tokenizer=build_tokenizer(),
        speaker_encoder=speaker_encoder.eval(),
        voice_encoder=voice_encoder.eval(),
    )


def as_a_file(wave: Tensor) -> Tensor:
    """The clip, written and decoded again: what is read of a file is what the reference hears."""
    file = io.BytesIO()
    soundfile.write(file, wave.numpy(), SAMPLE_RATE, format="WAV", subtype="FLOAT")
    decoded = decode_clip(file.getvalue())
    assert torch.equal(decoded.wave, wave)
    return decoded.wave


def synthesise_mel(voice: Voice, group: Group) -> Tensor:
    """Mel of the group's tokens, from its noise."""
    tokens = torch.cat([voice.prompt_tokens, group["in.speech_tokens"][None]], dim=1)
    flow = Flow(BASE, tokens.shape[1])
    seed_module(flow, prefix="flow.")
    flow.eval()
    block = torch.zeros_like(tokens)
    mu = flow.encode(tokens, block)
    cond = torch.zeros_like(mu)
    prompt_frames = voice.prompt_mel.shape[1]
    cond[:, :, :prompt_frames] = voice.prompt_mel.transpose(1, 2)
    mel = flow.solve(
        group["in.noise"],
        block.repeat_interleave(MEL_FRAMES_PER_TOKEN, dim=1),
        mu=mu,
        speaker=flow.project_speaker(voice.speaker),
        cond=cond,
    )
    return mel[:, :, prompt_frames:]


def test_clip_to_waveform(conditioner: Conditioner) -> None:
    """Which resampler feeds which model, what is trimmed and what is cut, then the whole chain."""
    group = Group("end_to_end")
    clip = as_a_file(group["in.ref_wav24k"])
    voice = conditioner.conditionals(clip)
    odd = clip[: group.facts["odd_clip.samples"]]
    assert prompt_log_mel(odd[None]).shape[2] == group.facts["odd_clip.prompt_feat_frames"]
    odd_voice = conditioner.conditionals(odd)
    mel, vocoder = synthesise_mel(voice, group), build_vocoder()
    f0 = vocoder.predict_f0(mel)
    nothing = torch.zeros(1, vocoder.config.sines, 1)
    source = vocoder.m_source.excite(summed_in_float32(vocoder.m_source, f0), f0, nothing, nothing)
    wave = vocoder.decode(mel, source)
    fade = build_fade_in()[torch.arange(wave.shape[1]).clamp_max(len(build_fade_in()) - 1)]
    assert_every_array(
        group,
        {
            r"t3\.speaker_emb": lambda _: voice.t3_speaker,
            r"t3\.cond_prompt_speech_tokens": lambda _: voice.t3_prompt,
            r"gen\.prompt_token": lambda _: voice.prompt_tokens,
            r"gen\.prompt_token_len": lambda _: torch.tensor([voice.prompt_tokens.shape[1]]),
            r"gen\.prompt_feat": lambda _: voice.prompt_mel,
            r"gen\.embedding": lambda _: voice.speaker,
            r"odd_clip\.prompt_token": lambda _: odd_voice.prompt_tokens,
            r"odd_clip\.prompt_token_len": lambda _: torch.tensor(
                [odd_voice.prompt_tokens.shape[1]]
            ),
            r"mel": lambda _: mel,
            r"f0": lambda _: f0,
            r"source_zero_noise": lambda _: source,
            r"wav_zero_noise_faded": lambda _: wave * fade,
        },
        but=("t3.emotion_adv",),  # an option of each context here, not part of a voice
    )
    whole = MEL_FRAMES_PER_TOKEN * odd_voice.prompt_tokens.shape[1]
    assert torch.equal(odd_voice.prompt_mel, prompt_log_mel(odd[None]).transpose(1, 2)[:, :whole])
