"""What dialects of the main port share: a client's request and the line to it; no socket."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from daemon.config import Config
from daemon.dialects.line import Call, HangUp, Line, parse_object
from daemon.door.tokens import ANYBODY
from daemon.watching.metrics import Metrics
from daemon.wire.errors import BadJson


def call(path: str, *headers: tuple[str, str]) -> Call:
    return Call.of(Request(path, Headers(list(headers))))


def test_a_request_is_taken_apart() -> None:
    """Names of voices may hold anything; a slash in one must not become a part of the path."""
    found = call("/v1/voices/a%20b%2Fc?x=1&x=2&empty=&y=%C3%A9")
    assert found.parts == ("v1", "voices", "a b/c")
    assert found.query == {"x": "1", "empty": "", "y": "é"}
    assert found.bearer is ANYBODY
    assert call("/").parts == ("",)


def test_two_tokens_are_none() -> None:
    """Which of them a proxy had looked at would be anybody's guess."""
    found = call("/", ("X-Key", "one"), ("x-key", "two"))
    assert found.header("x-key") == "one, two"
    assert found.header("other") is None


@pytest.mark.parametrize(
    "raw", [b"{}", "", "{", "[]", "1", "null", "[" * 100_000, '{"a":' * 50_000]
)
def test_what_is_no_object_is_an_error(raw: str | bytes) -> None:
    """Nested deep enough, JSON makes Python give up; that must not end the connection."""
    with pytest.raises(BadJson):
        parse_object(raw)


class Protocol:
    close_code = None


class Connection:
    """Takes everything, says nothing."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.closed: list[tuple[int, str]] = []
        self.protocol = Protocol()
        self.is_stuck = False

    async def recv(self) -> str:
        await asyncio.sleep(3600)
        return ""

    async def send(self, message: str | bytes) -> None:
        if self.is_stuck:
            await asyncio.sleep(3600)
        self.sent.append(message)

    async def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


def on_line(
    converse: Callable[[Line], Awaitable[None]],
    *,
    beside: Callable[[Line], Awaitable[None]] | None = None,
    **settings: Any,
) -> Connection:
    """A whole conversation; `beside` runs at the same time, outside it."""
    connection = Connection()

    async def talk() -> None:
        line = Line(
            connection,  # type: ignore[arg-type]
            call("/"),
            name="test-1",
            bearer=ANYBODY,
            config=Config(**settings),
            metrics=Metrics(),
        )
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(line.run(converse))
            if beside is not None:
                await beside(line)
        assert len(asyncio.all_tasks()) == 1, "a task of the conversation is left"

    asyncio.run(talk())
    return connection


def test_a_conversation_that_returns_is_closed_in_order() -> None:
    """What it has spawned must not go on for nobody."""

    async def converse(line: Line) -> None:
        line.spawn(asyncio.sleep(3600))
        await line.send_json({"a": 1})

    connection = on_line(converse)
    assert connection.sent == ['{"a": 1}']
    assert connection.closed == [(1000, "")]


def test_any_task_can_hang_up() -> None:
    """A context that finds the end of it all is not the one that reads."""

    async def fail() -> None:
        raise HangUp(1008, "é" * 100)

    async def converse(line: Line) -> None:
        line.spawn(fail())
        await line.receive()

    ((code, reason),) = on_line(converse).closed
    assert code == 1008
    assert reason == "é" * 61  # a close has room for 123 bytes


def test_a_bug_in_a_task_is_not_swallowed() -> None:
    """Lost with its task, it would be a client that waits for ever."""

    async def fail() -> None:
        raise ZeroDivisionError

    async def converse(line: Line) -> None:
        line.spawn(fail())
        await line.receive()

    with pytest.raises(ExceptionGroup) as caught:
        on_line(converse)
    assert caught.group_contains(ZeroDivisionError)


def test_a_drain_waits_for_what_is_owed() -> None:
    """The last message of a context, not the end of its audio, is where a client may go."""

    async def owe(line: Line, may_end: asyncio.Event) -> None:
        with line.busy():
            await may_end.wait()
            await line.send("the last")

    async def converse(line: Line) -> None:
        await line.receive()

    async def beside(line: Line) -> None:
        may_end = asyncio.Event()
        line.spawn(owe(line, may_end))
        await asyncio.sleep(0)
        line.drain()
        await asyncio.sleep(0.01)
        may_end.set()

    connection = on_line(converse, beside=beside)
    assert connection.sent == ["the last"]
    assert connection.closed[0][0] == 1001


def test_breaking_off_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context that is owed for ever would keep the daemon from ending."""
    monkeypatch.setattr("daemon.dialects.line._CLOSE_S", 0.01)

    async def converse(line: Line) -> None:
        with line.busy():
            await line.receive()

    async def beside(line: Line) -> None:
        await asyncio.sleep(0)
        line.break_off()

    connection = on_line(converse, beside=beside)
    assert connection.closed == [(1001, "the daemon shuts down")]


def test_who_takes_nothing_is_given_up() -> None:
    """In every task that waits for room; one of them is enough to know."""

    async def converse(line: Line) -> None:
        for _ in range(3):
            line.spawn(line.send("audio", is_audio=True))
        await line.receive()

    async def beside(line: Line) -> None:
        line._connection.is_stuck = True  # type: ignore[attr-defined]

    ((code, reason),) = on_line(converse, beside=beside, stall_s=0.01).closed
    assert (code, reason) == (1008, "nothing was read for 0.01 s")
