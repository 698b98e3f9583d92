"""A reference clip in, a `Voice` out: everything that T3 and the flow need to know of a speaker."""

from dataclasses import dataclass

import torch
from torch import Tensor

from chatterbox.api import SAMPLE_RATE
from chatterbox.conditioning.clip import accepted, sound_span
from chatterbox.conditioning.mel import (
    LOW_RATE,
    prompt_log_mel,
    tokenizer_log_mel,
    voice_encoder_mel,
)
from chatterbox.conditioning.resample import resample_for_flow, resample_for_tokens
from chatterbox.conditioning.speaker_encoder import SpeakerEncoder, fbank
from chatterbox.conditioning.speech_tokenizer import SpeechTokenizer
from chatterbox.conditioning.voice_encoder import VoiceEncoder
from chatterbox.config import MEL_FRAMES_PER_TOKEN, TOKEN_RATE, ModelConfig
from chatterbox.voice import Voice


@dataclass(frozen=True, slots=True)
class FlowPrompt:
    """What the flow continues: tokens and mel of the same sound, and who speaks it."""

    tokens: Tensor  # [1, tokens] int64
    mel: Tensor  # [1, 2 * tokens, mel_bins]
    speaker: Tensor  # [1, 192]


class Conditioner:
    """The three models that listen to a clip."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        tokenizer: SpeechTokenizer,
        speaker_encoder: SpeakerEncoder,
        voice_encoder: VoiceEncoder,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._speaker_encoder = speaker_encoder
        self._voice_encoder = voice_encoder

    @torch.no_grad()
    def conditionals(self, clip: Tensor) -> Voice:
        """The voice of a clip [samples] at 24 kHz; raises `VoiceError` if it is unfit."""
        clip = accepted(clip, self._config.clip)
        low = resample_for_tokens(clip)
        prompt = self.flow_prompt(clip)
        return Voice(
            t3_speaker=self.voice_embedding(low),
            t3_prompt=self.prompt_tokens(low),
            prompt_tokens=prompt.tokens,
            prompt_mel=prompt.mel,
            speaker=prompt.speaker,
        )

    def prompt_tokens(self, low: Tensor) -> Tensor:
        """T3's prompt: the tokens [1, ≤ t3.prompt_tokens] of the start of a 16 kHz clip
        [samples].
        """
        longest = self._config.t3.prompt_tokens
        start = low[None, : longest * LOW_RATE // TOKEN_RATE]
        return self._tokenizer(tokenizer_log_mel(start), max_tokens=longest)

    def voice_embedding(self, low: Tensor) -> Tensor:
        """T3's speaker vector [1, 256], from all of a 16 kHz clip [samples] but the silence around
        it.
        """
        first, last = sound_span(low)
        return self._voice_encoder(voice_encoder_mel(low[None, first:last])[0])

    def flow_prompt(self, clip: Tensor) -> FlowPrompt:
        """The flow's prompt, from the start of a 24 kHz clip [samples]."""
        longest = self._config.flow.max_prompt_tokens
        start = clip[None, : longest * SAMPLE_RATE // TOKEN_RATE]
        low = resample_for_flow(start)
        tokens, mel = self._tokenizer(tokenizer_log_mel(low)), prompt_log_mel(start)
        # The last token and the last mel frame may be halves: keep whole pairs. The reference keeps
        # an odd frame, which shifts the tokens against the mel of everything spoken by 20 ms.
        whole = min(tokens.shape[1], mel.shape[2] // MEL_FRAMES_PER_TOKEN)
        return FlowPrompt(
            tokens=tokens[:, :whole],
            mel=mel[:, :, : MEL_FRAMES_PER_TOKEN * whole].transpose(1, 2).contiguous(),
            speaker=self._speaker_encoder(fbank(low)),
        )
