"""`config.json` beside a checkpoint in, frozen sizes of every stage out. No torch.

One implementation serves every checkpoint; whatever differs between Turbo, Nano and the bundled
voice is data here. The defaults are the published sizes of Chatterbox Turbo.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

from chatterbox.api import OptionSpec

TOKEN_RATE = 25
"""Speech tokens per second."""
MEL_FRAMES_PER_TOKEN = 2
SAMPLES_PER_MEL_FRAME = 480
SPEECH_CODES = 6561
"""Speech tokens with sound behind them are 0 … 6560 (3^8 codes of the finite scalar quantiser)."""
BACKBONES = ("gpt2", "llama")
LOOKAHEAD_TOKENS = 3
"""Tokens that the flow encoder's convolution sees ahead of the last one that becomes mel."""


_T = TypeVar("_T")


class ConfigError(ValueError):
    """`config.json` does not describe a model; the message names the key."""


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
    """What the prompt is resampled to. `llama` only, as are the next three."""
    resampler_heads: int = 4
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
    def max_spoken_tokens(self) -> int:
        """Text tokens of one generation, without those that mark start and stop."""
        marks = (self.start_text_token, self.stop_text_token)
        return self.max_text_tokens - sum(mark is not None for mark in marks)

    def marked(self, text_tokens: Sequence[int]) -> list[int]:
        """The text tokens of one generation between their start and stop."""
        start = [] if self.start_text_token is None else [self.start_text_token]
        stop = [] if self.stop_text_token is None else [self.stop_text_token]
        return [*start, *text_tokens, *stop]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowConfig:
    """Conformer encoder with 2x upsampling, and the U-Net/transformer estimator of the flow."""

    mel_bins: int = 80
    speaker_channels: int = 192
    encoder_channels: int = 512
    encoder_heads: int = 8
    encoder_mlp_channels: int = 2048
    encoder_blocks: int = 6
    upsampled_blocks: int = 4
    estimator_channels: int = 256
    estimator_heads: int = 8
    estimator_head_channels: int = 64
    estimator_transformers: int = 4
    """Transformer blocks per stage."""
    estimator_mid_stages: int = 12
    estimator_mlp_factor: int = 4
    meanflow: bool = True
    """The estimator sees start and end of each solver step, and steps are equal in time."""
    steps: int = 2
    guidance: float = 0.0
    """Classifier-free guidance rate; 0 for none."""
    block_causal: bool = False
    """Attention sees the prompt, earlier blocks of the window schedule and its own; else every
    valid frame.
    """
    first_windows: tuple[int, ...] = (8, 8, 16)
    """New tokens of the first windows; later ones take `window_tokens`."""
    window_tokens: int = 24
    context_tokens: int = 50
    """Tokens of the past that a window sees besides the voice prompt."""
    max_prompt_tokens: int = 250

    @property
    def time_channels(self) -> int:
        return 4 * self.estimator_channels

    @property
    def max_window_tokens(self) -> int:
        return self.max_prompt_tokens + self.context_tokens + self.window_tokens + LOOKAHEAD_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class VocoderConfig:
    """HiFT: F0 predictor, harmonic source and inverse-STFT generator."""

    mel_bins: int = 80
    base_channels: int = 512
    upsample_rates: tuple[int, ...] = (8, 5, 3)
    upsample_kernels: tuple[int, ...] = (16, 11, 7)
    n_fft: int = 16
    hop: int = 4
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    source_resblock_kernels: tuple[int, ...] = (7, 7, 11)
    source_resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    f0_channels: int = 512
    harmonics: int = 8
    """Overtones beside the fundamental."""
    sine_amplitude: float = 0.1
    voiced_noise: float = 0.003
    voiced_threshold_hz: float = 10.0
    bounded_phase: bool = True
    """The official generator passes the phase through a sine, which limits it to ±1 rad; the
    bundled one does not.
    """
    aligned_harmonics: bool = False
    """Overtones start in phase with the fundamental, so that the source is a train of pulses; the
    official generator gives each a random phase.
    """
    directed_phase: bool = False
    """The phase of each bin is that of the source, turned by two more outputs of the generator,
    instead of an angle: angles wrap, and a small generator never learns to follow them.
    """
    left_context_frames: int = 16
    first_right_context_frames: int = 8
    right_context_frames: int = 12

    def __post_init__(self) -> None:
        samples = self.hop
        for rate in self.upsample_rates:
            samples *= rate
        if samples != SAMPLES_PER_MEL_FRAME:
            raise ConfigError(
                f"vocoder.hop times upsample_rates is {samples}, not {SAMPLES_PER_MEL_FRAME}"
            )

    @property
    def sines(self) -> int:
        return self.harmonics + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipConfig:
    """What a reference clip must be, and what is done to it, before a voice is computed."""

    min_s: float = 1.0
    """A clip must be longer than this."""
    loudness_lufs: float | None = None
    """The clip is scaled to this loudness; None leaves it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """How text becomes text tokens."""

    front_end: str = "phonemes"
    symbols: tuple[str, ...] = ()
    """`symbols[i]` is text token i."""
    max_segment_chars: int = 240
    max_speech_per_text_token: float = 3.5
    """Speech tokens per text token beyond which the model has missed its stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Everything about a checkpoint but its weights."""

    name: str
    languages: tuple[str, ...] = ("en",)
    default_voice: str = "default"
    noise_frames: int = 15_000
    """Length of the position-indexed noise of the flow."""
    text: TextConfig = field(default_factory=TextConfig)
    t3: T3Config = field(default_factory=T3Config)
    flow: FlowConfig = field(default_factory=FlowConfig)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `config.json`; raises `ConfigError` that names the file and the key."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"{path}: no such file; a checkpoint folder holds a config.json"
            ) from None
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}: not JSON: {error}") from None
        try:
            return _build(cls, raw, where="")
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    @property
    def options(self) -> tuple[OptionSpec, ...]:
        """The generation options that this model honours."""
        sampling = self.sampling
        return (
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
        )


def _build(kind: type[_T], raw: object, *, where: str) -> _T:
    """A frozen dataclass from its JSON form: unknown and missing keys are errors, lists become
    tuples.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where or 'the file'} must be an object")
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # a dataclass type
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise ConfigError(
            f"unknown key {where}{unknown[0]}; valid ones: {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = {}
    for name, item in known.items():
        if name in raw:
            hint = hints[name]
            values[name] = (
                _build(hint, raw[name], where=f"{where}{name}.")
                if isinstance(hint, type) and is_dataclass(hint)
                else _tuples(raw[name])
            )
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ConfigError(f"key {where}{name} is missing")
    return kind(**values)


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
