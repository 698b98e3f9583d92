"""A socket of ElevenLabs' dialect against a clock that stands still unless everybody waits: what
silence ends, what keeps it from that, and what a close means."""

import asyncio
import json
import selectors
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from chatterbox.sine import SineEngine
from daemon.config import Config
from daemon.dialects.elevenlabs_talk import Talk
from daemon.dialects.elevenlabs_wire import parse_query
from daemon.dialects.line import Call, Line
from daemon.door.tokens import ANYBODY
from daemon.speaking.outputs import Samples, UtteranceEnded, UtteranceOutput
from daemon.watching.metrics import Metrics
from daemon.wire.errors import TextTooLong

INFO = SineEngine(num_slots=1, samples_per_step=4800).info
MAX_CHARS = 100
_LONGEST_S = 3600.0
"""Of time that costs nothing."""


class Selector(selectors.SelectSelector):
    """Nobody waits in vain: time goes on to the next timer at once."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        if not ready and timeout:
            self.now_s += timeout
        return ready


class Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s


class Stream:
    """Says what the test gives it; ends when it is told to."""

    def __init__(self) -> None:
        self.text = ""
        self.is_ended = False
        self.is_cancelled = False
        self._outputs: asyncio.Queue[UtteranceOutput | None] = asyncio.Queue()

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add_text(self, text: str) -> None:
        if len(self.text) + len(text) > MAX_CHARS:
            raise TextTooLong("too long")
        self.text += text

    def flush(self) -> None:
        """Nothing of it is told."""

    def end(self) -> None:
        self.is_ended = True

    def cancel(self) -> None:
        self.is_cancelled = True
        self._outputs.put_nowait(None)

    def close(self) -> None:
        """Nothing is left of it."""

    def say(self, duration_ms: int) -> None:
        self._outputs.put_nowait(Samples(samples=np.zeros(24 * duration_ms, np.float32)))

    def finish(self) -> None:
        num_chars = len(self.text)
        self._outputs.put_nowait(UtteranceEnded(num_samples=0, num_segments=1, num_chars=num_chars))
        self._outputs.put_nowait(None)

    async def outputs(self) -> AsyncGenerator[UtteranceOutput, None]:
        while (output := await self._outputs.get()) is not None:
            yield output


class Studio:
    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}

    def at_speed(self, speed: float) -> tuple[Mapping[str, float], float]:
        return {"speed": speed}, 1.0

    def speak(self, wish: Any, **_marks: object) -> Stream:
        self.streams[wish.context] = Stream()
        return self.streams[wish.context]

    def note_error(self, code: str) -> None:
        """Counted elsewhere."""


class Connection:
    """The client's end is `say` and `told`."""

    def __init__(self) -> None:
        self.told: list[tuple[float, dict[str, Any]]] = []
        self.closed: list[tuple[float, int]] = []
        self._inbox: asyncio.Queue[str] = asyncio.Queue()

    async def recv(self) -> str:
        return await self._inbox.get()

    async def send(self, message: str) -> None:
        self.told.append((now_s(), json.loads(message)))

    async def close(self, code: int, _reason: str) -> None:
        self.closed.append((now_s(), code))

    async def say(self, context: str | None = None, **body: object) -> None:
        """And until it has been taken."""
        named = body if context is None else {"context_id": context, **body}
        self._inbox.put_nowait(json.dumps(named))
        await asyncio.sleep(0.001)

    def ended_s(self, context: str) -> float | None:
        """When `isFinal` came."""
        at_s = [
            at_s
            for at_s, body in self.told
            if body.get("contextId") == context and body.get("isFinal")
        ]
        assert len(at_s) <= 1
        return at_s[0] if at_s else None


def now_s() -> float:
    return asyncio.get_running_loop().time()


def on_socket(test: Callable[[Connection, Studio], Awaitable[None]], **query: str) -> None:
    """The daemon's end of it is run beside the test."""

    async def run() -> None:
        connection, studio = Connection(), Studio()
        line = Line(
            connection,  # type: ignore[arg-type]
            Call.of(Request("/", Headers())),
            name="test-1",
            bearer=ANYBODY,
            config=Config(),
            metrics=Metrics(),
        )
        wanted = parse_query({"output_format": "pcm_24000", **query}, INFO)

        async def converse(line: Line) -> None:
            await Talk(line, wanted, voice="sine", is_multi=True, studio=studio).run()  # type: ignore[arg-type]

        async with asyncio.timeout(_LONGEST_S), asyncio.TaskGroup() as group:
            group.create_task(line.run(converse))
            await test(connection, studio)
            line.hang_up()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(run())


def test_keepalives_keep_a_context_and_a_socket() -> None:
    """A client that waits for its model says so, Pipecat every ten seconds; were its context ended,
    what comes next would be refused as text behind an end."""

    async def talk(client: Connection, studio: Studio) -> None:
        await client.say("c", text="waiting")
        for _ in range(10):
            await asyncio.sleep(18)
            await client.say("c", text="")
        assert not studio.streams["c"].is_ended
        await client.say("c", close_context=True)
        studio.streams["c"].finish()
        await asyncio.sleep(1)
        assert client.ended_s("c") is not None
        for _ in range(10):
            await asyncio.sleep(18)
            await client.say(text="")
        assert not client.closed
        last_s = now_s()
        await asyncio.sleep(60)
        ((at_s, code),) = client.closed
        assert 19.9 <= at_s - last_s <= 22
        assert code == 1008

    on_socket(talk)


def test_silence_ends_a_context_and_only_that_one() -> None:
    """Its place would be held for ever. Another context's keepalive is none of its own."""

    async def talk(client: Connection, studio: Studio) -> None:
        await client.say("c", text="waiting")
        begun_s = now_s()
        await client.say("d", text="waiting, too")
        while now_s() - begun_s < 100:
            await client.say("d", text="")
            await asyncio.sleep(5)
            if studio.streams["c"].is_ended:
                break
        assert 19.9 <= now_s() - begun_s <= 27
        studio.streams["c"].finish()
        await asyncio.sleep(1)
        assert client.ended_s("c") is not None
        assert not studio.streams["d"].is_ended

    on_socket(talk)


def test_who_listens_is_not_silent() -> None:
    """A text that takes longer to say than the daemon waits for more must not end its context."""

    async def talk(client: Connection, studio: Studio) -> None:
        await client.say("c", text="And so on. ")
        for _ in range(10):
            await asyncio.sleep(18)
            studio.streams["c"].say(200)
        await asyncio.sleep(18)
        await client.say("c", text="And more. ", close_context=True)
        studio.streams["c"].finish()
        await asyncio.sleep(1)
        assert studio.streams["c"].text == "And so on. And more. "
        assert client.ended_s("c") is not None
        assert not [body for _at_s, body in client.told if "error" in body]

    on_socket(talk)


def test_a_context_that_silence_has_ended_was_not_closed() -> None:
    """The first close of its client then says that all of it is wanted; taken for the second, it
    cut what was being spoken."""

    async def talk(client: Connection, studio: Studio) -> None:
        await client.say("c", text="waiting")
        await asyncio.sleep(30)
        stream = studio.streams["c"]
        assert stream.is_ended
        for is_second in (False, True):
            await client.say("c", close_context=True)
            assert stream.is_cancelled == is_second
        assert client.ended_s("c") is not None

    on_socket(talk)


@pytest.mark.parametrize("is_immediate", [False, True])
def test_a_message_that_is_too_long_still_closes(*, is_immediate: bool) -> None:
    """Its text is refused; left open, whoever waits for isFinal waits for the time of silence."""

    async def talk(client: Connection, studio: Studio) -> None:
        await client.say("c", text="So. ")
        too_long = "x" * MAX_CHARS
        await client.say("c", text=too_long, close_context=True, immediate=is_immediate)
        assert [body["error"] for _at_s, body in client.told if "error" in body] == [
            "max_character_limit_exceeded"
        ]
        stream = studio.streams["c"]
        assert (stream.is_cancelled, stream.is_ended) == (is_immediate, not is_immediate)
        if not is_immediate:
            stream.finish()
        await asyncio.sleep(1)
        assert client.ended_s("c") is not None

    on_socket(talk)
