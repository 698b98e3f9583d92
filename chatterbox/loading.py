"""A checkpoint folder in, a warm-able engine out: the one place that puts all parts together."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chatterbox.checkpoint import can_clone, load_s3gen, load_t3
from chatterbox.config import ConfigError, ModelConfig
from chatterbox.device.backend import choose_backend
from chatterbox.device.precision import set_precision
from chatterbox.engine import ChatterboxEngine
from chatterbox.text.front_end import FrontEnd
from chatterbox.text.languages import Languages
from chatterbox.text.official import (
    EnglishFrontEnd,
    MultilingualFrontEnd,
    TurboFrontEnd,
    gpt2_tokenizer,
    json_tokenizer,
)
from chatterbox.text.phonemes import PhonemeFrontEnd
from chatterbox.token_names import phonemes_of_tokens, read_states
from chatterbox.variants import find_checkpoint
from chatterbox.voice import Voice, VoiceError, load_voice, load_voices

OFFICIAL_VOICE = "conds.pt"
"""The default voice of an official checkpoint."""


def load_engine(
    model: str | None,
    *,
    offline: bool = False,
    extra_voices: Path | None = None,
    num_slots: int = 4,
    threads: int = 1,
    deterministic: bool = False,
    dtype: str = "float32",
    eager: bool = False,
    lag: int | None = None,
) -> ChatterboxEngine:
    """The engine for a checkpoint (default: the bundled voice), on a GPU where there is one.

    `model` and `offline` as in `find_checkpoint`; `extra_voices` as in `load_all_voices`; `threads`
    bounds the CPU threads of torch; `deterministic` pins every batch to one shape, so that
    neighbours cannot change a rounding; `dtype` is the precision of the weights (`DTYPES`);
    `eager` captures nothing; `lag` as in `ChatterboxEngine`. Raises ConfigError, HubError,
    CheckpointError, VoiceError or VocabularyError with what is wrong and where.
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder, config = find_checkpoint(model, offline=offline)
    flow, vocoder = load_s3gen(folder, config)
    t3 = load_t3(folder, config)
    set_precision(t3, flow, vocoder, dtype)
    return ChatterboxEngine(
        config,
        t3,
        flow,
        vocoder,
        voices=load_all_voices(folder, config, extra_voices),
        front_end=load_front_end(folder, config),
        num_slots=num_slots,
        token_phonemes=load_token_phonemes(folder, config),
        can_clone=can_clone(folder, config),
        deterministic=deterministic,
        device=device,
        backend=choose_backend(device, eager=eager),
        lag=lag,
    )


def load_all_voices(
    folder: Path, config: ModelConfig, extra: Path | None = None
) -> dict[str, Voice]:
    """The voices of a checkpoint: its `conds.pt` as the default, every one in `voices/`, and every
    one in the folder `extra`. A later one of the same name wins.
    """
    voices: dict[str, Voice] = {}
    if (folder / OFFICIAL_VOICE).is_file():
        voices[config.default_voice] = load_voice(folder / OFFICIAL_VOICE, config)
    if (folder / "voices").is_dir():
        voices |= load_voices(folder / "voices", config)
    if extra is not None:
        voices |= load_voices(extra, config)
    if not voices:
        raise VoiceError(
            f"{folder}: no voice; there is neither {OFFICIAL_VOICE} nor voices/: make one with"
            " `python -m chatterbox.voice`, and name its folder as --voices"
        )
    return voices


def load_token_phonemes(folder: Path, config: ModelConfig) -> NDArray[np.int16] | None:
    """Which phonemes sound in each speech token, where they have names."""
    if not config.text.token_states:
        return None
    return phonemes_of_tokens(read_states(folder / config.text.token_states), config.text.symbols)


def load_front_end(folder: Path, config: ModelConfig) -> FrontEnd:
    """The front end that the config names, with the vocabulary of the checkpoint."""
    kind = config.text.front_end
    if kind == "phonemes":
        return PhonemeFrontEnd(config.text.symbols)
    speech, tokens = config.t3.max_generated_tokens, config.t3.max_spoken_tokens
    vocabulary = folder / config.text.vocabulary
    if kind == "english":
        return EnglishFrontEnd(json_tokenizer(vocabulary), most_speech=speech, most_tokens=tokens)
    if kind == "multilingual":
        return MultilingualFrontEnd(
            json_tokenizer(vocabulary),
            Languages(config.languages, folder),
            most_speech=speech,
            most_tokens=tokens,
        )
    if kind == "gpt2":
        return TurboFrontEnd(gpt2_tokenizer(folder), most_speech=speech, most_tokens=tokens)
    raise ConfigError(
        f"unknown text.front_end {kind!r}; known: phonemes, english, multilingual, gpt2"
    )
