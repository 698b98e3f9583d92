"""What a dialect may ask of the daemon: to be let in, what is offered, and speech.

The only thing of the daemon that dialects share. Knows no dialect, no socket and no encoding.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

from websockets.datastructures import Headers

from daemon.door.gate import Admission, Gate, Refusal, unauthorized
from daemon.door.tokens import ANYBODY, Bearer
from daemon.engine.thread import EngineThread
from daemon.speaking.account import UtteranceSummary
from daemon.speaking.offer import Offer
from daemon.speaking.speech_stream import SpeechStream
from daemon.watching.metrics import Metrics
from daemon.wire.errors import ContextLost, Draining
from daemon.wire.protocol import Open

Result = TypeVar("Result")


class Refused(Exception):
    """The gate said no."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class Studio:
    """One daemon's. `executor` is for encoding."""

    def __init__(
        self,
        *,
        engine: EngineThread,
        gate: Gate,
        metrics: Metrics,
        offer: Offer,
        executor: Executor,
    ) -> None:
        self.offer = offer
        self._engine = engine
        self._gate = gate
        self._metrics = metrics
        self._executor = executor
        self._streams: set[SpeechStream] = set()
        self._num_owing = 0
        self._names = itertools.count(1)
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    # --- coming in --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def admitted(self, headers: Headers, *, address: object) -> Iterator[Bearer]:
        """One place of the daemon for as long as the block lasts. Raises `Refused`."""
        with self._place(self._gate.admit("", headers, address=address)) as bearer:
            yield bearer

    @contextlib.contextmanager
    def admitted_unasked(self, *, address: object) -> Iterator[Bearer]:
        """The same for a dialect that has no way to show a token."""
        with self._place(self._gate.admit_unasked(address=address)) as bearer:
            yield bearer

    @contextlib.contextmanager
    def _place(self, outcome: Admission | Refusal) -> Iterator[Bearer]:
        if isinstance(outcome, Refusal):
            self._metrics.note_refusal(outcome.reason)
            raise Refused(outcome)
        try:
            yield outcome.bearer
        finally:
            self._gate.give_back(outcome)

    def check_token(self, headers: Headers, *, address: object, token: str | None = None) -> Bearer:
        """For questions that need no place. `token` as in `Gate.bearer`. Raises `Refused`."""
        peer = self._gate.peer(headers, address=address)
        refusal = self._gate.too_fast(peer)
        bearer = self._gate.bearer("", headers, token=token) if refusal is None else None
        if bearer is None:
            refusal = refusal or unauthorized()
            self._metrics.note_refusal(refusal.reason)
            raise Refused(refusal)
        return bearer

    # --- speech -----------------------------------------------------------------------------------

    def voice_of(self, name: str, bearer: Bearer = ANYBODY) -> str | None:
        """The voice that another service's name stands for: one of the model's or the bearer's
        own, or an alias of one in the configuration. None if there is none."""
        voices = self.offer.to(bearer).voices
        if name in voices:
            return name
        aliases = dict(alias.split("=", 1) for alias in self.offer.config.voice_aliases)
        ours = aliases.get(name, aliases.get("*"))
        return ours if ours in voices else None

    def at_speed(self, speed: float) -> tuple[dict[str, float], float]:
        """Options of the model, and the tempo for an encoder, that together make this speed. Where
        the model can, its word times and our pacing are those of what is heard."""
        for spec in self.offer.info.options:
            if spec.name == "speed" and spec.minimum <= speed <= spec.maximum:
                return {"speed": speed}, 1.0
        return {}, speed

    def speak(self, wish: Open, *, bearer: Bearer, audio_format: str, session: str) -> SpeechStream:
        """`audio_format` and `session` are words for the log. Raises `WireError` for a wish that
        cannot be met."""
        if self._gate.is_draining:
            raise Draining("the daemon is shutting down")
        offer = self.offer.to(bearer)
        stream = SpeechStream(
            offer.resolve(wish),
            audio_format=audio_format,
            session=session,
            offer=offer,
            engine=self._engine,
            on_close=self._note_close,
        )
        self._streams.add(stream)
        self._is_quiet.clear()
        return stream

    def new_name(self, dialect: str) -> str:
        """What the log calls a connection."""
        return f"{dialect}-{next(self._names)}"

    def _note_close(self, stream: SpeechStream, summary: UtteranceSummary) -> None:
        self._metrics.note_utterance(summary)
        self._streams.discard(stream)
        self._note_quiet()

    @contextlib.contextmanager
    def owing(self) -> Iterator[None]:
        """While a dialect owes its client something: what a stream gave out last is not sent yet
        when the stream ends, and a daemon that is told to stop must not end before."""
        self._num_owing += 1
        self._is_quiet.clear()
        try:
            yield
        finally:
            self._num_owing -= 1
            self._note_quiet()

    def _note_quiet(self) -> None:
        if not self._streams and not self._num_owing:
            self._is_quiet.set()

    async def in_pool(self, work: Callable[[], Result]) -> Result:
        """Encoding that would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def note_error(self, code: str) -> None:
        self._metrics.note_error(code)

    # --- the daemon's side ------------------------------------------------------------------------

    @property
    def num_streams(self) -> int:
        return len(self._streams)

    async def wait_until_quiet(self) -> None:
        await self._is_quiet.wait()

    def break_off(self, error: ContextLost) -> None:
        """Nothing that is being spoken goes on."""
        for stream in list(self._streams):
            stream.lose(error)
