"""A checkpoint folder in, a warm-able engine out: the one place that puts all parts together."""

from pathlib import Path

import torch

from chatterbox.checkpoint import load_s3gen, load_t3
from chatterbox.config import ConfigError, ModelConfig, TextConfig
from chatterbox.engine import ChatterboxEngine
from chatterbox.text.front_end import FrontEnd
from chatterbox.text.phonemes import PhonemeFrontEnd
from chatterbox.voice import load_voices

BUNDLED = Path(__file__).parent / "checkpoints" / "tiny"


def load_engine(
    model: str | None, *, num_slots: int = 4, threads: int = 1, deterministic: bool = False
) -> ChatterboxEngine:
    """The engine for a checkpoint folder (default: the bundled voice), on a GPU where there is one.

    `threads` bounds the CPU threads of torch; `deterministic` pins every batch to one shape, so
    that neighbours cannot change a rounding. Raises ConfigError, CheckpointError or VoiceError with
    what is wrong and where.
    """
    torch.set_num_threads(threads)
    folder = BUNDLED if model is None else Path(model)
    config = ModelConfig.load(folder / "config.json")
    flow, vocoder = load_s3gen(folder, config)
    return ChatterboxEngine(
        config,
        load_t3(folder, config),
        flow,
        vocoder,
        voices=load_voices(folder / "voices", config),
        front_end=load_front_end(config.text),
        num_slots=num_slots,
        deterministic=deterministic,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )


def load_front_end(config: TextConfig) -> FrontEnd:
    """The front end that `config.json` names."""
    if config.front_end == "phonemes":
        return PhonemeFrontEnd(config.symbols)
    raise ConfigError(f"unknown text.front_end {config.front_end!r}; known: phonemes")
