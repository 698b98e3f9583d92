"""What this daemon offers to clients, and a client's `open` checked against it. Pure.

The engine says which voices, languages and options there are; the configuration says the limits;
the shelf, which voices somebody has of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from chatterbox.api import SAMPLE_RATE, EngineInfo, Lexicon
from daemon.config import (
    LONGEST_BUFFER_DELAY_MS,
    LONGEST_LEAD_MS,
    SERVER_VERSION,
    SHORTEST_LEAD_MS,
    Config,
)
from daemon.door.tokens import ANYBODY, Bearer
from daemon.opus import BITRATE_DEFAULT, BITRATE_MAX, BITRATE_MIN
from daemon.speaking.lexicon import BadEntry, HouseLexicon, new_lexicon
from daemon.speaking.word_estimate import Paces
from daemon.wire.errors import BadMessage, BadOption, UnknownFormat, UnknownLanguage, UnknownVoice
from daemon.wire.protocol import FORMATS, AudioFormat, Begin, Limits, Open, Opened, OpusFacts
from daemon.wire.voice_messages import CloningTerms, VoiceFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSettings:
    """A valid `open` with every default filled in."""

    context: str
    voice: str
    format: AudioFormat
    bitrate: int
    seed: int
    language: str
    options: Mapping[str, float]
    max_buffer_delay_ms: int
    max_lead_ms: int
    lexicons: tuple[Lexicon, ...] = ()

    def to_opened(self, *, number: int) -> Opened:
        return Opened(
            context=self.context,
            number=number,
            voice=self.voice,
            format=self.format.wire_name,
            seed=self.seed,
            language=self.language,
            options=dict(self.options),
            max_buffer_delay_ms=self.max_buffer_delay_ms,
            max_lead_ms=self.max_lead_ms,
            bitrate=self.bitrate if self.format is AudioFormat.OPUS else None,
        )


class VoiceShelf(Protocol):
    """Voices that belong to one bearer each."""

    def facts_of(self, bearer: Bearer) -> Sequence[VoiceFacts]: ...

    def terms_for(self, bearer: Bearer) -> CloningTerms | None:
        """On which this bearer may have more made; None if not at all."""


class _EmptyShelf:
    def facts_of(self, bearer: Bearer) -> Sequence[VoiceFacts]:
        return ()

    def terms_for(self, bearer: Bearer) -> CloningTerms | None:
        return None


_EMPTY_SHELF = _EmptyShelf()
_NO_LEXICON = HouseLexicon()


@dataclass(frozen=True, slots=True)
class Offer:
    info: EngineInfo
    config: Config
    shelf: VoiceShelf = _EMPTY_SHELF
    lexicon: HouseLexicon = _NO_LEXICON
    bearer: Bearer = ANYBODY
    """Who it is made to."""
    paces: Paces = field(default_factory=Paces, compare=False)
    """One for all."""

    def to(self, bearer: Bearer) -> "Offer":
        """The same, with this bearer's limits and voices."""
        return replace(self, config=bearer.limit(self.config), bearer=bearer)

    @property
    def voices(self) -> tuple[str, ...]:
        """The model's, then the bearer's own."""
        return (*self.info.voices, *(facts.voice for facts in self.shelf.facts_of(self.bearer)))

    def begin(self) -> Begin:
        config = self.config
        return Begin(
            server=SERVER_VERSION,
            model=self.info.model,
            sample_rate=SAMPLE_RATE,
            formats=tuple(FORMATS),
            opus=OpusFacts(
                bitrate_default=BITRATE_DEFAULT,
                bitrate_min=BITRATE_MIN,
                bitrate_max=BITRATE_MAX,
            ),
            voices=self.voices,
            default_voice=self.info.default_voice,
            languages=tuple(self.info.languages),
            options=tuple(self.info.options),
            slots=self.info.num_slots,
            word_times=self.info.word_times,
            tags=tuple(self.info.tags),
            phonemes=self.info.phonemes,
            limits=Limits(
                message_bytes=config.max_message_bytes,
                text_chars=config.max_text_chars,
                contexts=config.max_contexts,
                messages_per_s=config.max_messages_per_s,
                wait_ms=config.max_wait_ms,
                stall_ms=round(1000 * config.stall_s),
                buffer_delay_ms_default=config.max_buffer_delay_ms,
                buffer_delay_ms_max=LONGEST_BUFFER_DELAY_MS,
                lead_ms_default=config.max_lead_ms,
                lead_ms_min=SHORTEST_LEAD_MS,
                lead_ms_max=LONGEST_LEAD_MS,
                lexicon_entries=config.max_lexicon,
                break_ms=config.max_break_ms,
            ),
            cloning=self.shelf.terms_for(self.bearer),
        )

    def resolve(self, message: Open) -> ContextSettings:
        """Raises the `WireError` that names what this daemon does not have."""
        audio_format = FORMATS.get(message.format or AudioFormat.OPUS.wire_name)
        if audio_format is None:
            raise UnknownFormat(f"there is no format {message.format!r}")
        voice = message.voice if message.voice is not None else self.info.default_voice
        if voice not in self.voices:
            raise UnknownVoice(f"there is no voice {voice!r}")
        language = message.language if message.language is not None else self.info.languages[0]
        if language not in self.info.languages:
            raise UnknownLanguage(f"there is no language {language!r}")
        return ContextSettings(
            context=message.context,
            voice=voice,
            format=audio_format,
            bitrate=self._bitrate(message, audio_format),
            seed=message.seed or 0,
            language=language,
            options=self._options(message.options),
            max_buffer_delay_ms=_in_range(
                "max_buffer_delay_ms",
                message.max_buffer_delay_ms,
                default=self.config.max_buffer_delay_ms,
                minimum=0,
                maximum=LONGEST_BUFFER_DELAY_MS,
            ),
            max_lead_ms=_in_range(
                "max_lead_ms",
                message.max_lead_ms,
                default=self.config.max_lead_ms,
                minimum=SHORTEST_LEAD_MS,
                maximum=LONGEST_LEAD_MS,
            ),
            lexicons=self._lexicons(message, language),
        )

    def _lexicons(self, message: Open, language: str) -> tuple[Lexicon, ...]:
        """The client's own before the operator's."""
        of_house = self.lexicon.of(language)
        entries = message.lexicon
        if not entries:
            return of_house
        if len(entries) > self.config.max_lexicon:
            raise BadMessage(
                f"lexicon has {len(entries)} entries; {self.config.max_lexicon} are allowed"
            )
        try:
            return (new_lexicon(entries), *of_house)
        except BadEntry as error:
            raise BadMessage(f"lexicon: {error}") from error

    def _bitrate(self, message: Open, audio_format: AudioFormat) -> int:
        if message.bitrate is not None and audio_format is not AudioFormat.OPUS:
            raise BadMessage(f"bitrate has no meaning for {audio_format.wire_name}")
        return _in_range(
            "bitrate",
            message.bitrate,
            default=BITRATE_DEFAULT,
            minimum=BITRATE_MIN,
            maximum=BITRATE_MAX,
        )

    def _options(self, asked: Mapping[str, float]) -> dict[str, float]:
        specs = {spec.name: spec for spec in self.info.options}
        for name, value in asked.items():
            spec = specs.get(name)
            if spec is None:
                raise BadOption(f"this model has no option {name!r}")
            if not spec.minimum <= value <= spec.maximum:
                raise BadOption(f"{name} must lie between {spec.minimum:g} and {spec.maximum:g}")
        return {name: asked.get(name, spec.default) for name, spec in specs.items()}


def _in_range(name: str, value: int | None, *, default: int, minimum: int, maximum: int) -> int:
    if value is None:
        return default
    if not minimum <= value <= maximum:
        raise BadMessage(f"{name} must lie between {minimum} and {maximum}")
    return value
