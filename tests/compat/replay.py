"""A recorded conversation in; all that was said to a daemon again and came, in order, out.

What the client sent is sent once the daemon has answered as it had then; how long that took does
not matter.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from wyoming.event import Event, async_read_event, async_write_event

from tests.compat.recording import Conversation, Step, Tally, kind_of

_LONGEST_S = 30.0


@dataclass(frozen=True, slots=True)
class Said:
    text: str


@dataclass(frozen=True, slots=True)
class Came:
    message: str | bytes
    """Of Wyoming, the header; its audio is a message of its own behind it."""


@dataclass(slots=True)
class Answers:
    conversation: Conversation
    happened: list[Said | Came] = field(default_factory=list)
    status: int = 101
    headers: dict[str, str] = field(default_factory=dict)
    is_whole: bool = False
    """Of HTTP: the body was ended properly."""

    @property
    def came(self) -> list[str | bytes]:
        return [item.message for item in self.happened if isinstance(item, Came)]

    @property
    def audio(self) -> bytes:
        return b"".join(message for message in self.came if isinstance(message, bytes))


class _Room:
    """Where a conversation takes place: what came, and waiting for it."""

    def __init__(self, conversation: Conversation) -> None:
        self.answers = Answers(conversation)
        self._tally = Tally()
        self._news = asyncio.Event()

    def came(self, message: str | bytes, kind: str) -> None:
        self.answers.happened.append(Came(message))
        self.note(kind)

    def note(self, kind: str) -> None:
        self._tally.note(kind)
        self._news.set()

    async def until(self, step: Step) -> None:
        try:
            async with asyncio.timeout(_LONGEST_S):
                while not self._tally.has(step.after):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise AssertionError(
                f"{self.answers.conversation.path}: waited for {step.after}, came"
                f" {self._tally.counts}; then {step.sends!r}"
            ) from error
        if step.sends is not None:
            self.answers.happened.append(Said(step.sends))


async def replay(
    conversation: Conversation, *, main: int, openai: int | None, wyoming: int | None
) -> Answers:
    match conversation.opens:
        case "websocket":
            return await _websocket(conversation, main)
        case "wyoming":
            assert wyoming is not None
            return await _wyoming(conversation, wyoming)
    is_openai = conversation.path.startswith("/v1/audio") or conversation.path == "/v1/models"
    port = openai if is_openai and conversation.headers.get("xi-api-key") is None else main
    assert port is not None
    return await _http(conversation, port)


async def _websocket(conversation: Conversation, port: int) -> Answers:
    room = _Room(conversation)
    agent = conversation.headers.get("user-agent")
    others = {name: text for name, text in conversation.headers.items() if name != "user-agent"}
    try:
        connection = await connect(
            f"ws://127.0.0.1:{port}{conversation.path}",
            additional_headers=others,
            user_agent_header=agent,
            compression=None,
            max_size=None,
        )
    except InvalidStatus as error:
        room.answers.status = error.response.status_code
        room.answers.headers = {name.lower(): text for name, text in error.response.headers.items()}
        return room.answers
    async with connection, asyncio.TaskGroup() as group:
        listening = group.create_task(_listen(connection, room))
        for step in conversation.steps:
            await room.until(step)
            if step.sends is not None:
                await connection.send(step.sends)
        await connection.close()
        await listening
    return room.answers


async def _listen(connection: ClientConnection, room: _Room) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            room.came(message, kind_of(message))


async def _http(conversation: Conversation, port: int) -> Answers:
    room = _Room(conversation)
    body = conversation.steps[0].sends if conversation.steps else None
    leaves = conversation.steps[-1]
    is_interrupted = "end" not in leaves.after and bool(body)
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.request(
            conversation.method,
            f"http://127.0.0.1:{port}{conversation.path}",
            headers=conversation.headers,
            data=body or None,
        ) as response,
    ):
        room.answers.status = response.status
        room.answers.headers = {name.lower(): text for name, text in response.headers.items()}
        async for data in response.content.iter_any():
            room.came(data, "body")
            if is_interrupted:
                response.close()
                return room.answers
    room.answers.is_whole = True
    return room.answers


async def _wyoming(conversation: Conversation, port: int) -> Answers:
    room = _Room(conversation)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    listening = asyncio.create_task(_listen_to_events(reader, room))
    try:
        for step in conversation.steps:
            await room.until(step)
            if step.sends is not None:
                await async_write_event(Event.from_dict(json.loads(step.sends)), writer)
    finally:
        listening.cancel()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await listening
    return room.answers


async def _listen_to_events(reader: asyncio.StreamReader, room: _Room) -> None:
    while (event := await async_read_event(reader)) is not None:
        room.came(json.dumps(event.to_dict()), event.type)
        if event.payload:
            room.answers.happened.append(Came(event.payload))
