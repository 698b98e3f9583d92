"""One context of a session: its text in, its messages out; speech and delivery brought together.

Lives on the event loop. Knows its session only as somebody to post messages to and to tell of its
end.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Protocol

from daemon.delivery import Delivery
from daemon.engine.thread import EngineThread
from daemon.outbox import Outbox
from daemon.speaking.account import Outcome, UtteranceSummary
from daemon.speaking.offer import ContextSettings, Offer
from daemon.speaking.outputs import SegmentTrouble, UtteranceOutput
from daemon.speaking.speech import Speech
from daemon.wire.errors import ContextLost, SegmentLost, WireError
from daemon.wire.protocol import Cancelled, ServerMessage, Warned


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
        self._engine = engine
        self._speech = Speech(
            settings,
            audio_format=settings.format.wire_name,
            listener=self,
            offer=offer,
            engine=engine,
            client=id(owner),
        )
        self._delivery = Delivery(
            settings=settings,
            number=number,
            utterance_id=self._speech.id,
            engine=engine,
            outbox=outbox,
            executor=executor,
            on_sent=self._speech.note_sent,
            on_end=lambda: owner.note_end(self),
        )

    @property
    def name(self) -> str:
        return self.settings.context

    async def deliver(self) -> None:
        """To be run as a task; returns when all audio is in the outbox."""
        await self._delivery.run()

    # --- what the client wants --------------------------------------------------------------------

    def add_text(self, text: str) -> None:
        self._speech.add_text(text)

    def flush(self) -> None:
        self._speech.flush()

    def end(self) -> None:
        self._speech.end()

    def cancel(self) -> None:
        """Frees slots, packets and encoder, whatever the state."""
        self._speech.cancel()
        self._delivery.close()

    def drop(self) -> None:
        """Nothing more comes in or goes out."""
        self._speech.drop()
        self._delivery.close()

    def lead_s(self) -> float | None:
        """Audio that its listener has ahead; None before the first of it left."""
        return self._delivery.lead_s(self._engine.clock())

    def summarize(self, outcome: Outcome) -> UtteranceSummary:
        return self._speech.summarize(outcome, num_samples_sent=self._delivery.num_samples_sent)

    def to_cancelled(self, played_ms: float | None) -> Cancelled:
        heard = self._speech.heard(played_ms, num_samples_sent=self._delivery.num_samples_sent)
        return Cancelled(
            context=self.name,
            text_spoken=heard.text_spoken,
            text_remaining=heard.text_remaining,
            played_ms=heard.played_ms,
            samples_sent=heard.num_samples_sent,
        )

    # --- what the speech gives --------------------------------------------------------------------

    def give_out(self, outputs: Sequence[UtteranceOutput]) -> None:
        self._delivery.put(outputs)

    def lose(self, error: ContextLost) -> None:
        self._owner.lose(self, error)

    def note_trouble(self, trouble: SegmentTrouble) -> None:
        if trouble.is_failure:
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
