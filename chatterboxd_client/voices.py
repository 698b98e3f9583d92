"""A clip in, a voice of one's own out: the client side of section 6 of docs/protocol.md.

One question and one clip at a time; the session's contexts speak on meanwhile.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from daemon.wire.protocol import Failed, ServerMessage
from daemon.wire.voice_messages import (
    VoiceAccepted,
    VoiceDelete,
    VoiceDeleted,
    VoiceFacts,
    VoiceList,
    VoiceProgress,
    VoiceReady,
    VoiceRequest,
    Voices,
    VoiceUpload,
)

OnProgress = Callable[[str, int], None]
"""Is told `waiting` or `making`, and how many clips are before this one."""
Answer = TypeVar("Answer", VoiceDeleted, Voices)
_Inbox = asyncio.Queue[ServerMessage | Exception]


class OwnVoices:
    """Of one session. `send` and `send_bytes` write to its socket; `refuse` makes the exception of
    an error."""

    def __init__(
        self,
        *,
        message_bytes: int,
        send: Callable[[VoiceRequest], Awaitable[None]],
        send_bytes: Callable[[bytes], Awaitable[None]],
        refuse: Callable[[Failed], Exception],
    ) -> None:
        self._message_bytes = message_bytes
        self._send = send
        self._send_bytes = send_bytes
        self._refuse = refuse
        self._names = itertools.count(1)
        self._asking = asyncio.Lock()
        self._uploading = asyncio.Lock()
        self._answers: _Inbox | None = None
        self._uploads: dict[str, _Inbox] = {}

    async def clone(
        self, clip: bytes, *, name: str, consent: bool, on_progress: OnProgress | None
    ) -> VoiceReady:
        async with self._uploading:
            upload = f"upload-{next(self._names)}"
            inbox: _Inbox = asyncio.Queue()
            self._uploads[upload] = inbox
            try:
                wish = VoiceUpload(upload=upload, name=name, bytes=len(clip), consent=consent)
                await self._send(wish)
                await self._next(inbox, VoiceAccepted)
                for start in range(0, len(clip), self._message_bytes):
                    await self._send_bytes(clip[start : start + self._message_bytes])
                while True:
                    told = await self._next(inbox, VoiceProgress, VoiceReady)
                    if isinstance(told, VoiceReady):
                        return told
                    assert isinstance(told, VoiceProgress)
                    if on_progress is not None:
                        on_progress(told.state, told.ahead)
            finally:
                del self._uploads[upload]

    async def all(self) -> Sequence[VoiceFacts]:
        return (await self._ask(VoiceList(), Voices)).voices

    async def delete(self, voice: str) -> None:
        await self._ask(VoiceDelete(voice=voice), VoiceDeleted)

    async def _ask(self, request: VoiceRequest, kind: type[Answer]) -> Answer:
        async with self._asking:
            self._answers = asyncio.Queue()
            try:
                await self._send(request)
                answer = await self._next(self._answers, kind)
            finally:
                self._answers = None
            assert isinstance(answer, kind)
            return answer

    async def _next(self, inbox: _Inbox, *kinds: type[ServerMessage]) -> ServerMessage:
        """The next of these; what else comes (an older daemon's order, say) is passed over."""
        while True:
            item = await inbox.get()
            if isinstance(item, Failed):
                raise self._refuse(item)
            if isinstance(item, Exception):
                raise item
            if isinstance(item, kinds):
                return item

    # The client's reader calls the rest.

    def take(self, message: ServerMessage) -> bool:
        """Whether anybody here waited for it."""
        upload = getattr(message, "upload", None)
        inbox = self._uploads.get(upload) if upload is not None else self._answers
        is_answer = isinstance(message, Voices | VoiceDeleted | Failed)
        if inbox is None or (upload is None and not is_answer):
            return False
        inbox.put_nowait(message)
        return True

    def lose(self, trouble: Exception) -> None:
        """Nothing more comes."""
        for inbox in (*self._uploads.values(), self._answers):
            if inbox is not None:
                inbox.put_nowait(trouble)
