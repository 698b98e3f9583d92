"""One utterance for a dialect: text in by methods, its outputs out by `async for`.

Knows what the listener was given and when, so it paces, and tells the engine and the log. The same
for every dialect; it knows none.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import Self

from chatterbox.api import SAMPLE_RATE
from daemon.engine.thread import EngineThread
from daemon.speaking.account import Outcome, UtteranceSummary
from daemon.speaking.feedback import Feedback
from daemon.speaking.offer import ContextSettings, Offer
from daemon.speaking.outputs import Samples, SegmentTrouble, UtteranceEnded, UtteranceOutput
from daemon.speaking.playback import PlaybackClock
from daemon.speaking.speech import Heard, Speech
from daemon.wire.errors import Busy, ContextLost

_log = logging.getLogger(__name__)


class SpeechStream:
    """To be used as a context manager: whatever happens inside, nothing of it is left afterwards.

    `session` is what the log calls the client's connection; `on_close` is called once.
    """

    def __init__(
        self,
        settings: ContextSettings,
        *,
        audio_format: str,
        session: str,
        offer: Offer,
        engine: EngineThread,
        on_close: Callable[["SpeechStream", UtteranceSummary], None],
    ) -> None:
        self.settings = settings
        self.session = session
        self._engine = engine
        self._on_close = on_close
        self._max_lead_s = settings.max_lead_ms / 1000
        self._clock = PlaybackClock()
        self._speech = Speech(
            settings, audio_format=audio_format, listener=self, offer=offer, engine=engine
        )
        self._feedback = Feedback(self._speech.id, clock=self._clock, engine=engine)
        self._waiting: deque[UtteranceOutput] = deque()
        self._has_news = asyncio.Event()
        self._loss: ContextLost | None = None
        self._is_open = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """What is not out yet is dropped. Harmless if the stream has ended."""
        if self._loss is not None:
            self._close(Outcome.BUSY if isinstance(self._loss, Busy) else Outcome.FAILED)
        else:
            self._close(Outcome.GONE)

    @property
    def num_samples_sent(self) -> int:
        return self._clock.num_sent

    # --- text in ----------------------------------------------------------------------------------

    def add_text(self, text: str) -> None:
        """Raises `TextTooLong` or `TextAfterEnd`."""
        self._speech.add_text(text)

    def flush(self) -> None:
        """Speak all of it now; `FlushReached` will be among the outputs."""
        self._speech.flush()

    def end(self) -> None:
        self._speech.end()

    def cancel(self, *, played_ms: float | None = None) -> Heard:
        """Nothing more comes out. What was heard is by the listener's word, or by what was taken
        out here."""
        if self._is_open and self._loss is None:
            self._speech.cancel()
        heard = self._speech.heard(played_ms, num_samples_sent=self._clock.num_sent)
        self._waiting.clear()
        self._close(Outcome.CANCELLED)
        return heard

    # --- speech out -------------------------------------------------------------------------------

    async def outputs(self) -> AsyncGenerator[UtteranceOutput, None]:
        """In order, up to `UtteranceEnded` or the cancel. Audio is given at most the settings' lead
        ahead of its playback. Raises `ContextLost` when nothing more will come."""
        while True:
            while self._is_open and not self._waiting and self._loss is None:
                self._has_news.clear()
                await self._has_news.wait()
            if not self._is_open:
                return
            if not self._waiting:
                assert self._loss is not None
                raise self._loss
            output = self._waiting.popleft()
            if isinstance(output, Samples):
                await self._wait_for_turn(output.samples.size)
                if self._is_closed():  # while it waited
                    return
                self._note_sent(output.samples.size)
            if isinstance(output, UtteranceEnded):
                self._close(Outcome.COMPLETE)
                yield output
                return
            yield output

    def _is_closed(self) -> bool:
        return not self._is_open

    async def _wait_for_turn(self, num_samples: int) -> None:
        """At least one piece is always on its way, however short the lead."""
        lead_s = self._clock.lead_s(self._engine.clock())
        too_far_s = min(lead_s, lead_s + num_samples / SAMPLE_RATE - self._max_lead_s)
        if too_far_s > 0:
            await asyncio.sleep(too_far_s)

    def _note_sent(self, num_samples: int) -> None:
        self._clock.send(num_samples, now_s=self._engine.clock())
        self._feedback.note_sent()
        self._speech.note_sent(self._clock)

    # --- what the speech tells --------------------------------------------------------------------

    def give_out(self, outputs: Sequence[UtteranceOutput]) -> None:
        self._waiting.extend(outputs)
        self._feedback.note_put(outputs)
        self._has_news.set()

    def note_trouble(self, trouble: SegmentTrouble) -> None:
        self._waiting.append(trouble)
        self._has_news.set()

    def lose(self, error: ContextLost) -> None:
        """What waits is still given out; then whoever listens learns of it."""
        if self._is_open and self._loss is None:
            self._loss = error
            self._speech.cancel()
            self._has_news.set()

    def _close(self, outcome: Outcome) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._speech.drop()
        self._has_news.set()
        summary = self._speech.summarize(outcome, num_samples_sent=self._clock.num_sent)
        marks = {"session": self.session, "context": self.settings.context}
        _log.info("%s", outcome.value, extra=marks | {"fields": summary.fields()})
        self._on_close(self, summary)
