"""One session's messages about voices in, the library's answers out; and the bytes of its clip in.

Lives on the event loop. Knows its session only as somebody to post messages to.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from daemon.cloned.library import NewVoice, Place, VoiceLibrary
from daemon.door.tokens import Bearer
from daemon.wire.errors import BinaryMessage, ClipLate, TooManyUploads, WireError
from daemon.wire.protocol import ServerMessage
from daemon.wire.voice_messages import (
    VoiceAccepted,
    VoiceDelete,
    VoiceDeleted,
    VoiceProgress,
    VoiceReady,
    VoiceRequest,
    Voices,
    VoiceUpload,
)


class DeskOwner(Protocol):
    """What a desk asks of its session."""

    def post(self, message: ServerMessage) -> None: ...

    def post_error(self, error: WireError) -> None: ...


@dataclass(slots=True)
class _Incoming:
    """A clip that is being sent."""

    upload: str
    place: Place
    timer: asyncio.TimerHandle
    data: bytearray = field(default_factory=bytearray)

    @property
    def num_missing(self) -> int:
        return self.place.num_bytes - len(self.data)


class VoiceDesk:
    """`spawn` runs a coroutine for as long as the session lasts."""

    def __init__(
        self,
        library: VoiceLibrary,
        *,
        bearer: Bearer,
        peer: str,
        longest_upload_s: float,
        owner: DeskOwner,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._library = library
        self._bearer = bearer
        self._peer = peer
        self._longest_upload_s = longest_upload_s
        self._owner = owner
        self._spawn = spawn
        self._incoming: _Incoming | None = None
        self._num_unwanted = 0

    def close(self) -> None:
        """The session is over. What was sent whole becomes a voice nevertheless."""
        if self._incoming is not None:
            self._drop(self._incoming)

    def take(self, request: VoiceRequest) -> None:
        """Raises `WireError`."""
        match request:
            case VoiceUpload():
                self._begin(request)
            case VoiceDelete(voice=voice):
                deleting = self._library.delete(voice, bearer=self._bearer, peer=self._peer)
                self._spawn(self._tell_deleted(voice, deleting))
            case _:
                self._owner.post(Voices(voices=self._library.facts_of(self._bearer)))

    def take_bytes(self, data: bytes) -> None:
        """Of the clip that was accepted last. Raises `BinaryMessage` if there is none."""
        if self._incoming is None:
            # On their way when the clip was given up.
            if not data or len(data) > self._num_unwanted:
                raise BinaryMessage("a binary message that belongs to no upload")
            self._num_unwanted -= len(data)
            return
        incoming = self._incoming
        if len(data) > incoming.num_missing:
            raise BinaryMessage("more bytes than the upload was to have")
        incoming.data += data
        if not incoming.num_missing:
            self._finish(incoming)

    # --- an upload --------------------------------------------------------------------------------

    def _begin(self, request: VoiceUpload) -> None:
        if self._incoming is not None:
            raise TooManyUploads("another clip of this session is still being sent")
        place = self._library.reserve(request, bearer=self._bearer, peer=self._peer)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._longest_upload_s, self._give_up)
        self._incoming = _Incoming(request.upload, place, timer)
        self._num_unwanted = 0
        self._owner.post(VoiceAccepted(upload=request.upload))

    def _give_up(self) -> None:
        incoming = self._incoming
        assert incoming is not None, "its timer ends with it"
        self._drop(incoming)
        self._num_unwanted = incoming.num_missing
        late = ClipLate(f"the clip was not there after {self._longest_upload_s:g} s")
        late.upload = incoming.upload
        self._owner.post_error(late)

    def _drop(self, incoming: _Incoming) -> None:
        incoming.timer.cancel()
        self._library.give_back(incoming.place)
        self._incoming = None

    def _finish(self, incoming: _Incoming) -> None:
        incoming.timer.cancel()
        self._incoming = None

        def on_progress(state: str, ahead: int) -> None:
            self._owner.post(VoiceProgress(upload=incoming.upload, state=state, ahead=ahead))

        making = self._library.submit(incoming.place, bytes(incoming.data), on_progress=on_progress)
        self._spawn(self._tell_made(incoming.upload, making))

    async def _tell_made(self, upload: str, making: "asyncio.Task[NewVoice]") -> None:
        try:
            new = await asyncio.shield(making)
        except WireError as error:
            error.upload = upload
            self._owner.post_error(error)
            return
        self._owner.post(
            VoiceReady(
                upload=upload,
                voice=new.voice.id,
                name=new.voice.name,
                seconds=new.voice.seconds,
                warnings=tuple(new.warnings),
                expires_in_s=self._library.expires_in_s(new.voice),
            )
        )

    async def _tell_deleted(self, voice: str, deleting: "asyncio.Task[None]") -> None:
        try:
            await asyncio.shield(deleting)
        except WireError as error:
            self._owner.post_error(error)
        else:
            self._owner.post(VoiceDeleted(voice=voice))
