"""The official variants: name → sizes of T3 and defaults of its sampling."""

from dataclasses import replace

from chatterbox.t3.config import SamplingConfig, T3Config

SILENCE_TOKEN = 4299

_ENGLISH = T3Config(
    backbone="llama",
    layers=30,
    text_vocab=704,
    start_text_token=255,
    stop_text_token=0,
    speech_vocab=8194,
    prompt_tokens=150,
)
_MULTILINGUAL = replace(_ENGLISH, text_vocab=2454, aligned_heads=((12, 15), (13, 11), (9, 2)))
_TURBO = T3Config(closing_tokens=(SILENCE_TOKEN,) * 3)
_NANO = T3Config(
    layers=12, channels=768, heads=12, mlp_channels=3072, closing_tokens=(SILENCE_TOKEN,) * 3
)

T3_VARIANTS = {"english": _ENGLISH, "multilingual": _MULTILINGUAL, "turbo": _TURBO, "nano": _NANO}

_GUIDED = SamplingConfig(top_p=1.0)
_UNGUIDED = SamplingConfig()

SAMPLING_VARIANTS = {
    "english": _GUIDED,
    "multilingual": _GUIDED,
    "turbo": _UNGUIDED,
    "nano": _UNGUIDED,
}
