"""Sizes of the token predictor and the defaults of its sampling, as `config.json` holds them. No
torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from chatterbox.api import OptionSpec
from chatterbox.frozen import ConfigError

BACKBONES = ("gpt2", "llama")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """Defaults of what steers the token predictor; the ranges are in `ModelConfig.options`."""

    temperature: float = 0.8
    top_k: int = 1000
    """GPT-2 only, and the most that a client may ask for."""
    top_p: float = 0.95
    min_p: float = 0.05
    """Llama only, as are the last two."""
    repetition_penalty: float = 1.2
    exaggeration: float = 0.5
    cfg_weight: float = 0.5

    def with_options(self, options: Mapping[str, float]) -> Self:
        """These defaults, but for what a client asks for; names are those of
        `ModelConfig.options`.
        """
        changes: dict[str, Any] = dict(options)
        if "top_k" in changes:
            changes["top_k"] = round(changes["top_k"])
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class T3Config:
    """[speaker | prompt | text tokens | start | speech tokens] on one of two backbones.

    `gpt2` (Turbo, Nano): prompt speech tokens as they are, one table of learned positions for the
    whole sequence. `llama` (English, Multilingual): the prompt resampled to a few rows, a row of
    emotion, rotary positions, learned positions that restart for text and speech, the start token
    twice, and guidance: a second row for each slot that does not see the text.
    """

    backbone: str = "gpt2"
    layers: int = 24
    channels: int = 1024
    heads: int = 16
    mlp_channels: int = 4096
    positions: int = 8196
    """Rows of the table of learned positions. `gpt2` only, as is the next."""
    speech_positions_from: int = 0
    """Learned position of the start token, whatever the text's length; 0 counts on after the text,
    as the official checkpoints do. Fixed, a small model learns far sooner where it is in the text.
    """
    prompt_rows: int = 32
    """What the prompt is resampled to. `llama` only, as are the next four."""
    resampler_heads: int = 4
    aligned_heads: tuple[tuple[int, int], ...] = ()
    """(layer, head) whose attention follows the text, for whoever watches the alignment."""
    text_positions: int = 2050
    speech_positions: int = 4100
    text_vocab: int = 50276
    start_text_token: int | None = None
    """Put before the text tokens of each generation; None for nothing."""
    stop_text_token: int | None = None
    speech_vocab: int = 6563
    start_speech_token: int = 6561
    stop_speech_token: int = 6562
    closing_tokens: tuple[int, ...] = ()
    """Speech tokens (of silence) that follow the last one of each generation into the flow."""
    speaker_channels: int = 256
    prompt_tokens: int = 375
    max_text_tokens: int = 512
    max_speech_tokens: int = 1000

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ConfigError(f"t3.backbone must be one of {', '.join(BACKBONES)}")
        if self.channels % self.heads:
            raise ConfigError(f"t3.heads {self.heads} must divide t3.channels {self.channels}")
        last = self.speech_positions_from + 1 + self.max_speech_tokens
        for name, needed in (
            (
                ("text_positions", self.max_text_tokens + 1),
                ("speech_positions", max(self.max_speech_tokens + 1, self.prompt_tokens)),
            )
            if self.guided
            else (
                ("positions", self.max_sequence),
                ("positions", last if self.speech_positions_from else 0),
            )
        ):
            if getattr(self, name) < needed:
                raise ConfigError(
                    f"t3.{name} {getattr(self, name)} is below what is needed, {needed}"
                )

    @property
    def guided(self) -> bool:
        """A slot takes two rows of the batch; the second does not see the text."""
        return self.backbone == "llama"

    @property
    def rows_per_slot(self) -> int:
        return 2 if self.guided else 1

    @property
    def prefix_tokens(self) -> int:
        """Conditioning rows before the text: the speaker, the prompt and, if any, the emotion."""
        return 1 + self.prompt_rows + 1 if self.guided else 1 + self.prompt_tokens

    @property
    def start_rows(self) -> int:
        """How often the start token stands before the first speech token."""
        return 2 if self.guided else 1

    @property
    def max_sequence(self) -> int:
        return self.prefix_tokens + self.max_text_tokens + self.start_rows + self.max_speech_tokens

    @property
    def max_generated_tokens(self) -> int:
        """Steps of one generation."""
        return self.max_speech_tokens - len(self.closing_tokens)

    @property
    def max_spoken_tokens(self) -> int:
        """Text tokens of one generation, without those that mark start and stop."""
        marks = (self.start_text_token, self.stop_text_token)
        return self.max_text_tokens - sum(mark is not None for mark in marks)

    def marked(self, text_tokens: Sequence[int]) -> list[int]:
        """The text tokens of one generation between their start and stop."""
        start = [] if self.start_text_token is None else [self.start_text_token]
        stop = [] if self.stop_text_token is None else [self.stop_text_token]
        return [*start, *text_tokens, *stop]


def option_specs(t3: T3Config, sampling: SamplingConfig) -> tuple[OptionSpec, ...]:
    """The generation options that the token predictor honours: each for one slot, from its next
    segment on.
    """
    specs = [
        OptionSpec(
            name="temperature",
            default=sampling.temperature,
            minimum=0.0,
            maximum=2.0,
            description="randomness of the speech tokens; 0 always takes the likeliest",
        ),
        OptionSpec(
            name="top_p",
            default=sampling.top_p,
            minimum=0.01,
            maximum=1.0,
            description="draw from the likeliest tokens that hold this probability together",
        ),
        OptionSpec(
            name="repetition_penalty",
            default=sampling.repetition_penalty,
            minimum=1.0,
            maximum=3.0,
            description="weakens speech tokens that were already spoken; 1 for none",
        ),
    ]
    return (*specs, *(_guided_specs(sampling) if t3.guided else _gpt2_specs(sampling)))


def _gpt2_specs(sampling: SamplingConfig) -> list[OptionSpec]:
    return [
        OptionSpec(
            name="top_k",
            default=sampling.top_k,
            minimum=1,
            maximum=sampling.top_k,
            description="draw from so many of the likeliest tokens",
        )
    ]


def _guided_specs(sampling: SamplingConfig) -> list[OptionSpec]:
    return [
        OptionSpec(
            name="min_p",
            default=sampling.min_p,
            minimum=0.0,
            maximum=1.0,
            description="drop tokens less likely than this share of the likeliest; 0 for none",
        ),
        OptionSpec(
            name="exaggeration",
            default=sampling.exaggeration,
            minimum=0.0,
            maximum=2.0,
            description="how much feeling the voice shows",
        ),
        OptionSpec(
            name="cfg_weight",
            default=sampling.cfg_weight,
            minimum=0.0,
            maximum=2.0,
            description="how closely the speech keeps to the text; 0 for no guidance",
        ),
    ]
