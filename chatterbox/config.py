"""`config.json` beside a checkpoint in, frozen sizes of every stage out. No torch.

One implementation serves every checkpoint; whatever differs between Turbo, Nano and the bundled
voice is data here. The defaults are the published sizes of Chatterbox Turbo.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from chatterbox.api import OptionSpec
from chatterbox.frozen import ConfigError as ConfigError
from chatterbox.frozen import from_json
from chatterbox.t3.config import SamplingConfig as SamplingConfig
from chatterbox.t3.config import T3Config as T3Config
from chatterbox.t3.config import option_specs
from chatterbox.text.speech_need import densest

TOKEN_RATE = 25
"""Speech tokens per second."""
MEL_FRAMES_PER_TOKEN = 2
SAMPLES_PER_MEL_FRAME = 480
SPEECH_CODES = 6561
"""Speech tokens with sound behind them are 0 … 6560 (3^8 codes of the finite scalar quantiser)."""
SPEED = OptionSpec(
    name="speed",
    default=1.0,
    minimum=0.5,
    maximum=2.0,
    description="How fast it is said, at the same pitch; 2 takes half the time.",
)
"""Of every checkpoint: the mel is stretched between the flow and the vocoder."""
LOOKAHEAD_TOKENS = 3
"""Tokens that the flow encoder's convolution sees ahead of the last one that becomes mel."""


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
    noise_temperature: float = 1.0
    """Standard deviation of the noise that the solver starts from (as in Glow-TTS and Matcha-TTS).
    Below 1, a flow that has not learned to remove all of it sounds less rough.
    """
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
    whole_prefix_tokens: int = 0
    """Windows that end by this token see all tokens before them, however many."""
    max_prompt_tokens: int = 250

    @property
    def time_channels(self) -> int:
        return 4 * self.estimator_channels

    @property
    def max_window_tokens(self) -> int:
        new = max(*self.first_windows, self.window_tokens)
        longest = max(self.context_tokens + new, self.whole_prefix_tokens)
        return self.max_prompt_tokens + longest + LOOKAHEAD_TOKENS


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
    fade_in: bool = False
    """Utterances start with 20 ms of silence and 20 ms of rising level, as the official ones do."""
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
class ListeningConfig:
    """Sizes of the speech tokenizer, which every official checkpoint holds alike."""

    channels: int = 1280
    heads: int = 20
    blocks: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """How text becomes text tokens."""

    front_end: str = "phonemes"
    """`phonemes`, `english`, `multilingual` or `gpt2`; the last three are the official ones."""
    symbols: tuple[str, ...] = ()
    """`symbols[i]` is text token i. `phonemes` only."""
    token_states: str = ""
    """File that names the speech tokens, for voices whose tokens say which phonemes sound."""
    vocabulary: str = "tokenizer.json"
    """File of the tokenizer. `english` and `multilingual` only."""
    max_segment_chars: int = 240
    max_speech_per_text_token: float = 3.5
    """Speech tokens per text token beyond which the model has missed its stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesConfig:
    """Names of the files with weights."""

    t3: str = "t3.safetensors"
    s3gen: str = "s3gen.safetensors"
    voice_encoder: str = "ve.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Everything about a checkpoint but its weights."""

    name: str
    languages: tuple[str, ...] = ("en",)
    default_voice: str = "default"
    noise_frames: int = 15_000
    """Length of the position-indexed noise of the flow."""
    files: FilesConfig = field(default_factory=FilesConfig)
    text: TextConfig = field(default_factory=TextConfig)
    t3: T3Config = field(default_factory=T3Config)
    flow: FlowConfig = field(default_factory=FlowConfig)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    listening: ListeningConfig = field(default_factory=ListeningConfig)
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
            return from_json(cls, raw)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    @property
    def max_segment_chars_of(self) -> dict[str, int]:
        """How many characters one generation is sure to hold, where they take longer than
        letters.
        """
        longest = self.t3.max_speech_tokens - len(self.t3.closing_tokens)
        return {language: int(longest / need) for language, need in densest(self.languages).items()}

    @property
    def options(self) -> tuple[OptionSpec, ...]:
        """The generation options that this model honours."""
        return (*option_specs(self.t3, self.sampling), SPEED)
