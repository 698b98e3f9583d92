"""Text of one utterance in, its ordered outputs to one listener out, by way of the engine thread.

What every dialect is built on, the native protocol too. Lives on the event loop. Knows no socket,
no encoding and no message.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chatterbox.api import SAMPLE_RATE, Segment
from daemon.engine.commands import Speak
from daemon.engine.stepper import News, NoSlot
from daemon.engine.thread import EngineThread
from daemon.speaking.account import Account, Outcome, UtteranceSummary
from daemon.speaking.offer import ContextSettings, Offer
from daemon.speaking.outputs import SegmentBegun, SegmentTrouble, UtteranceOutput
from daemon.speaking.playback import PlaybackClock
from daemon.speaking.segmenter import Segmenter
from daemon.speaking.utterance import SpeechSettings, Utterance
from daemon.wire.errors import Busy, ContextLost


class SpeechListener(Protocol):
    """Who asked for the speech. Called on the event loop."""

    def give_out(self, outputs: Sequence[UtteranceOutput]) -> None:
        """What comes next, in order; no trouble among it."""

    def note_trouble(self, trouble: SegmentTrouble) -> None:
        """A segment is left out, or its engine had something to say."""

    def lose(self, error: ContextLost) -> None:
        """Nothing more comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What of an utterance was heard."""

    text_spoken: str
    text_remaining: str
    played_ms: float
    num_samples_sent: int


class Speech:
    def __init__(
        self,
        settings: ContextSettings,
        *,
        audio_format: str,
        listener: SpeechListener,
        offer: Offer,
        engine: EngineThread,
        client: int | None = None,
    ) -> None:
        """`audio_format` is the word for it in the log; `client` as in `EngineThread.open`."""
        self._name = settings.context
        self._max_buffer_delay_s = settings.max_buffer_delay_ms / 1000
        self._wait_ms = offer.config.max_wait_ms
        self._max_waiting = offer.config.max_waiting
        self._listener = listener
        self._engine = engine
        self._account = Account(voice=settings.voice, audio_format=audio_format)
        self._utterance = Utterance(
            settings=SpeechSettings(
                voice=settings.voice,
                seed=settings.seed,
                language=settings.language,
                options=settings.options,
                watermark=offer.config.watermark,
                lexicons=settings.lexicons,
            ),
            segmenter=Segmenter(max_chars=offer.info.longest_segment(settings.language)),
            next_segment_id=engine.next_segment_id,
            max_text_chars=offer.config.max_text_chars,
            word_times=offer.info.word_times,
            paces=offer.paces,
            max_break_ms=offer.config.max_break_ms,
        )
        self.id = engine.open(
            max_lead_s=settings.max_lead_ms / 1000,
            listener=self._note_news,
            client=client,
            voice=settings.voice,
        )
        self._flush_timer: asyncio.TimerHandle | None = None

    # --- what the client wants --------------------------------------------------------------------

    def add_text(self, text: str) -> None:
        segments = self._utterance.add_text(text)
        self._account.note_text(len(text), now_s=self._engine.clock())
        if not text:
            return
        self._stop_flush_timer()
        self._speak(segments)
        if self._utterance.has_pending_text:
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_later(
                self._max_buffer_delay_s, self._flush_complete_words
            )

    def flush(self) -> None:
        self._speak(self._utterance.flush())

    def end(self) -> None:
        self._speak(self._utterance.end())

    def cancel(self) -> None:
        """Frees slots and what waits, whatever the state."""
        self.drop()
        self._utterance.cancel()

    def drop(self) -> None:
        """Nothing more comes in or goes out."""
        self._stop_flush_timer()
        self._engine.close(self.id)

    def _flush_complete_words(self) -> None:
        """The writer has been silent for the buffer delay."""
        self._flush_timer = None
        self._speak(self._utterance.flush_complete_words())

    def _stop_flush_timer(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None

    def _speak(self, segments: list[Segment]) -> None:
        self._account.note_segments(len(segments), now_s=self._engine.clock())
        for segment in segments:
            self._engine.post(Speak(self.id, segment))
        self._give_out(self._utterance.advance())

    # --- what became of it ------------------------------------------------------------------------

    def note_sent(self, clock: PlaybackClock) -> None:
        """Something left for the listener whose clock this is."""
        self._account.note_sent(clock, now_s=self._engine.clock())

    def heard(self, played_ms: float | None, *, num_samples_sent: int) -> Heard:
        """What of the text was heard, by the client's word or else by what was sent."""
        if played_ms is None:
            played_ms = num_samples_sent * 1000 / SAMPLE_RATE
        text = self._utterance.text
        played_samples = min(played_ms * SAMPLE_RATE / 1000, num_samples_sent)
        num_spoken = self._utterance.num_chars_spoken(played_samples)
        return Heard(
            text_spoken=text[:num_spoken],
            text_remaining=text[num_spoken:],
            played_ms=round(played_ms, 3),
            num_samples_sent=num_samples_sent,
        )

    def summarize(self, outcome: Outcome, *, num_samples_sent: int) -> UtteranceSummary:
        return self._account.close(outcome, audio_s=num_samples_sent / SAMPLE_RATE)

    # --- news of the engine -----------------------------------------------------------------------

    def _note_news(self, news: News) -> None:
        if isinstance(news, NoSlot):
            message = f"no slot became free within {self._wait_ms} ms"
            if news.is_crowded:
                message = f"{self._max_waiting} contexts wait for a slot, and no more may"
            self._listener.lose(Busy(message, context=self._name))
        else:
            self._give_out(self._utterance.take(news))

    def _give_out(self, outputs: list[UtteranceOutput]) -> None:
        for output in outputs:
            if isinstance(output, SegmentTrouble):
                if output.is_failure:
                    self._account.note_failed_segment()
                self._listener.note_trouble(output)
            elif isinstance(output, SegmentBegun):
                self._account.note_begun(segment=output.index, sample=output.sample)
        in_order = [item for item in outputs if not isinstance(item, SegmentTrouble)]
        if in_order:
            self._listener.give_out(in_order)
