"""One context: its text in, its utterance, engine news and delivery brought together.

Lives on the event loop. Knows its session only as somebody to post messages to and to tell of its
end.
"""

import asyncio
from concurrent.futures import Executor
from typing import Protocol

from chatterbox.api import SAMPLE_RATE, Segment
from daemon.account import Account, Outcome, UtteranceSummary
from daemon.delivery import Delivery
from daemon.engine_thread import EngineThread, News, NoSlot, Speak
from daemon.errors import Busy, ContextLost, SegmentLost, WireError
from daemon.offer import ContextSettings, Offer
from daemon.outbox import Outbox
from daemon.protocol import Cancelled, ServerMessage, Warned
from daemon.segmenter import Segmenter
from daemon.utterance import (
    SegmentBegun,
    SegmentTrouble,
    SpeechSettings,
    Utterance,
    UtteranceOutput,
)


class ContextOwner(Protocol):
    """What a context asks of its session."""

    def post(self, message: ServerMessage) -> None: ...

    def post_error(self, error: WireError) -> None: ...

    def note_end(self, context: "Context") -> None:
        """Its `audio_end` is on the way to the socket."""

    def lose(self, context: "Context", error: ContextLost) -> None:
        """It cannot go on."""


class Context:
    def __init__(
        self,
        settings: ContextSettings,
        *,
        number: int,
        owner: ContextOwner,
        offer: Offer,
        engine: EngineThread,
        outbox: Outbox,
        executor: Executor,
    ) -> None:
        self.settings = settings
        self.number = number
        self._owner = owner
        self._wait_ms = offer.config.max_wait_ms
        self._max_waiting = offer.config.max_waiting
        self._engine = engine
        self._account = Account(voice=settings.voice, audio_format=settings.format.wire_name)
        self._utterance = Utterance(
            settings=SpeechSettings(
                voice=settings.voice,
                seed=settings.seed,
                language=settings.language,
                options=settings.options,
            ),
            segmenter=Segmenter(max_chars=offer.info.longest_segment(settings.language)),
            next_segment_id=engine.next_segment_id,
            max_text_chars=offer.config.max_text_chars,
        )
        self._utterance_id = engine.open(
            max_lead_s=settings.max_lead_ms / 1000, listener=self._note_news
        )
        self._delivery = Delivery(
            settings=settings,
            number=number,
            utterance_id=self._utterance_id,
            engine=engine,
            outbox=outbox,
            executor=executor,
            on_sent=lambda clock: self._account.note_sent(clock, now_s=engine.clock()),
            on_end=lambda: owner.note_end(self),
        )
        self._flush_timer: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        return self.settings.context

    async def deliver(self) -> None:
        """To be run as a task; returns when all audio is in the outbox."""
        await self._delivery.run()

    # --- what the client wants --------------------------------------------------------------------

    def add_text(self, text: str) -> None:
        segments = self._utterance.add_text(text)
        self._account.note_text(len(text), now_s=self._engine.clock())
        if not text:
            return
        self._stop_flush_timer()
        self._speak(segments)
        if self._utterance.has_pending_text:
            delay_s = self.settings.max_buffer_delay_ms / 1000
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_later(delay_s, self._flush_complete_words)

    def flush(self) -> None:
        self._speak(self._utterance.flush())

    def end(self) -> None:
        self._speak(self._utterance.end())

    def cancel(self) -> None:
        """Frees slots, packets and encoder, whatever the state."""
        self.drop()
        self._utterance.cancel()

    def drop(self) -> None:
        """Nothing more comes in or goes out."""
        self._stop_flush_timer()
        self._engine.close(self._utterance_id)
        self._delivery.close()

    def lead_s(self) -> float | None:
        """Audio that its listener has ahead; None before the first of it left."""
        return self._delivery.lead_s(self._engine.clock())

    def summarize(self, outcome: Outcome) -> UtteranceSummary:
        return self._account.close(outcome, audio_s=self._delivery.num_samples_sent / SAMPLE_RATE)

    def to_cancelled(self, played_ms: float | None) -> Cancelled:
        """What of the text was heard, by the client's word or else by what was sent."""
        num_sent = self._delivery.num_samples_sent
        if played_ms is None:
            played_ms = num_sent * 1000 / SAMPLE_RATE
        text = self._utterance.text
        played_samples = min(played_ms * SAMPLE_RATE / 1000, num_sent)
        num_spoken = self._utterance.num_chars_spoken(played_samples)
        return Cancelled(
            context=self.name,
            text_spoken=text[:num_spoken],
            text_remaining=text[num_spoken:],
            played_ms=round(played_ms, 3),
            samples_sent=num_sent,
        )

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
            self._engine.post(Speak(self._utterance_id, segment))
        self._give_out(self._utterance.advance())

    # --- news of the engine -----------------------------------------------------------------------

    def _note_news(self, news: News) -> None:
        if isinstance(news, NoSlot):
            message = f"no slot became free within {self._wait_ms} ms"
            if news.is_crowded:
                message = f"{self._max_waiting} contexts wait for a slot, and no more may"
            self._owner.lose(self, Busy(message, context=self.name))
        else:
            self._give_out(self._utterance.take(news))

    def _give_out(self, outputs: list[UtteranceOutput]) -> None:
        for output in outputs:
            if isinstance(output, SegmentTrouble):
                self._tell_trouble(output)
            elif isinstance(output, SegmentBegun):
                self._account.note_begun(segment=output.index, sample=output.sample)
        in_order = [item for item in outputs if not isinstance(item, SegmentTrouble)]
        if in_order:
            self._delivery.put(in_order)

    def _tell_trouble(self, trouble: SegmentTrouble) -> None:
        if trouble.is_failure:
            self._account.note_failed_segment()
            message = f"segment {trouble.index}: {trouble.message}"
            self._owner.post_error(SegmentLost(message, context=self.name))
            return
        self._owner.post(
            Warned(
                context=self.name,
                code=trouble.code,
                message=trouble.message,
                segment=trouble.index,
            )
        )


class ContextMemory:
    """The contexts that ended last: their listeners may still be hearing them."""

    def __init__(self, *, size: int) -> None:
        self._size = size
        self._contexts: dict[str, Context] = {}

    def remember(self, context: Context) -> None:
        self.forget(context.name)
        self._contexts[context.name] = context
        while len(self._contexts) > self._size:
            del self._contexts[next(iter(self._contexts))]

    def forget(self, name: str) -> Context | None:
        return self._contexts.pop(name, None)
