"""Doors of a daemon in, doors beside them out: real clients talk through these, and what they said
is kept. For `make record-compat`.
"""

import asyncio
import contextlib
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from http import HTTPStatus

import aiohttp
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from wyoming.event import Event, async_read_event, async_write_event

from tests.compat.recording import Conversation, Step, Tally, kept_headers, kind_of


class Notes:
    """One conversation being kept."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._began_s = time.monotonic()
        self._tally = Tally()

    def answer(self, kind: str) -> None:
        self._tally.note(kind)

    def said(self, message: str | None) -> None:
        at_ms = round(1000 * (time.monotonic() - self._began_s))
        self.conversation.steps.append(Step(message, self._tally.counts, at_ms))


class Recorder:
    def __init__(self) -> None:
        self.conversations: list[Conversation] = []

    def _note(self, conversation: Conversation) -> Notes:
        self.conversations.append(conversation)
        return Notes(conversation)

    # --- the main port ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def main_port(
        self, target: int, *, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[int]:
        upstream: dict[ServerConnection, tuple[ClientConnection, Notes]] = {}

        async def process_request(
            connection: ServerConnection, request: Request
        ) -> Response | None:
            headers = kept_headers(request.headers)
            if "Upgrade" not in request.headers:
                self._note(Conversation("http", request.path, "GET", headers)).said(None)
                url = f"http://127.0.0.1:{target}{request.path}"
                return await asyncio.to_thread(_fetched, url, headers)
            notes = self._note(Conversation("websocket", request.path, headers=headers))
            try:
                daemon = await connect(
                    f"ws://127.0.0.1:{target}{request.path}",
                    additional_headers={
                        name: value for name, value in headers.items() if name != "user-agent"
                    },
                    user_agent_header=headers.get("user-agent"),
                    compression=None,
                    max_size=None,
                )
            except InvalidStatus as error:
                notes.said(None)
                return error.response
            upstream[connection] = (daemon, notes)
            return None

        async def relay(connection: ServerConnection) -> None:
            daemon, notes = upstream.pop(connection)
            async with daemon, asyncio.TaskGroup() as group:
                group.create_task(_relay_said(connection, daemon, notes))
                group.create_task(_relay_answers(daemon, connection, notes))

        async with serve(
            relay,
            *("127.0.0.1", 0),
            ssl=tls,
            process_request=process_request,
            compression=None,
            max_size=None,
        ) as server:
            yield int(server.sockets[0].getsockname()[1])

    # --- OpenAI's port ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def openai_port(self, target: int) -> AsyncIterator[int]:
        async def relay(request: web.Request) -> web.StreamResponse:
            body = await request.text()
            conversation = Conversation(
                "http", request.path_qs, request.method, kept_headers(request.headers)
            )
            notes = self._note(conversation)
            notes.said(body)
            url = f"http://127.0.0.1:{target}{request.path_qs}"
            try:
                async with http.request(
                    request.method, url, headers=conversation.headers, data=body.encode() or None
                ) as answer:
                    notes.answer(str(answer.status))
                    response = web.StreamResponse(status=answer.status)
                    for name in ("Content-Type", "Retry-After", "x-request-id"):
                        if name in answer.headers:
                            response.headers[name] = answer.headers[name]
                    await response.prepare(request)
                    async for data in answer.content.iter_any():
                        notes.answer("body")
                        await response.write(data)
                    notes.answer("end")
                    await response.write_eof()
                    return response
            finally:
                notes.said(None)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", relay)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        async with aiohttp.ClientSession() as http:
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                yield int(runner.addresses[0][1])
            finally:
                await runner.cleanup()

    # --- Wyoming's port ---------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def wyoming_port(self, target: int) -> AsyncIterator[int]:
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            notes = self._note(Conversation("wyoming"))
            daemon_reader, daemon_writer = await asyncio.open_connection("127.0.0.1", target)
            answers = asyncio.create_task(_relay_events(daemon_reader, writer, notes))
            try:
                while (event := await async_read_event(reader)) is not None:
                    notes.said(_line(event))
                    await async_write_event(event, daemon_writer)
                notes.said(None)
            finally:
                answers.cancel()
                for end in (daemon_writer, writer):
                    end.close()
                    with contextlib.suppress(ConnectionError):
                        await end.wait_closed()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await answers

        async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
            yield int(server.sockets[0].getsockname()[1])


async def _relay_said(client: ServerConnection, daemon: ClientConnection, notes: Notes) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in client:
            assert isinstance(message, str), "no client sends bytes"
            notes.said(message)
            await daemon.send(message)
    notes.said(None)
    await daemon.close()


async def _relay_answers(daemon: ClientConnection, client: ServerConnection, notes: Notes) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in daemon:
            notes.answer(kind_of(message))
            await client.send(message)
    await client.close(daemon.close_code or 1000, daemon.close_reason or "")


async def _relay_events(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, notes: Notes
) -> None:
    while (event := await async_read_event(reader)) is not None:
        notes.answer(event.type)
        await async_write_event(event, writer)
    writer.close()


def _line(event: Event) -> str:
    assert not event.payload, "no client sends audio here"
    return json.dumps({"type": event.type, "data": event.data}, ensure_ascii=False)


def _fetched(url: str, headers: dict[str, str]) -> Response:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            status, body, kind = answer.status, answer.read(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        status, body, kind = error.code, error.read(), error.headers["Content-Type"]
    fields = Headers({"Content-Type": kind, "Content-Length": str(len(body))})
    fields["Connection"] = "close"
    return Response(status, HTTPStatus(status).phrase, fields, body)
