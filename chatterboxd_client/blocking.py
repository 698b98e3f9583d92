"""The client for programs without an event loop: the same calls, each waiting for its answer.

A thread of its own runs the event loop, so that audio is read while the program does other things.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar, Unpack

from chatterboxd_client.context import ConnectionLost
from chatterboxd_client.listening import Audio
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.speaking import Settings, Speaking, Spoken, say
from chatterboxd_client.voices import OnProgress
from daemon.wire.protocol import Begin, Cancelled
from daemon.wire.voice_messages import VoiceFacts, VoiceReady

Result = TypeVar("Result")


class BlockingSpeaking:
    """Speech on its way. Iterate over it, or `collect`, or `play`; once. Another thread may
    `cancel` meanwhile."""

    def __init__(self, client: "BlockingSpeechClient", speaking: Speaking) -> None:
        self._client = client
        self._speaking = speaking

    def __iter__(self) -> Iterator[Audio]:
        audio = aiter(self._speaking)
        while (item := self._client.wait_for(_next(audio))) is not None:
            yield item

    def collect(self) -> Spoken:
        return self._client.wait_for(self._speaking.collect())

    def play(self) -> Spoken:
        """Raises `NoPlayer` if the machine has none."""
        return self._client.wait_for(self._speaking.play())

    def cancel(self, *, played_ms: float | None = None) -> Cancelled:
        return self._client.wait_for(self._speaking.cancel(played_ms=played_ms))


class BlockingSpeechClient:
    """One session: `with BlockingSpeechClient(url) as client: client.say("Hello.").play()`."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="speech client", daemon=True
        )
        self._thread.start()
        try:
            self._client = self.wait_for(SpeechClient.connect(url, token=token))
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._thread.is_alive():
            try:
                self.wait_for(self._client.close())
            finally:
                self._stop()

    def _stop(self) -> None:
        self.wait_for(_end_tasks())
        self.wait_for(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def begin(self) -> Begin:
        """What the daemon offers: voices, formats, limits."""
        return self._client.begin

    def say(self, text: str | Iterable[str], **settings: Unpack[Settings]) -> BlockingSpeaking:
        """`text` may still be being written: each piece is sent as soon as the iterable has it."""
        written = text if isinstance(text, str) else _from_thread(text)
        speaking = self.wait_for(say(self._client, written, **settings))
        return BlockingSpeaking(self, speaking)

    def clone_voice(
        self, clip: bytes, *, name: str, consent: bool, on_progress: OnProgress | None = None
    ) -> VoiceReady:
        """As `SpeechClient.clone_voice`. `on_progress` is called by the client's own thread."""
        return self.wait_for(
            self._client.clone_voice(clip, name=name, consent=consent, on_progress=on_progress)
        )

    def own_voices(self) -> Sequence[VoiceFacts]:
        """The voices that this token has had made, oldest first."""
        return self.wait_for(self._client.own_voices())

    def delete_voice(self, voice: str) -> None:
        self.wait_for(self._client.delete_voice(voice))

    def wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._loop.is_closed():
            work.close()
            raise ConnectionLost("this client was closed")
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except BaseException:
            waiting.cancel()  # Ctrl-C, say
            raise


async def _end_tasks() -> None:
    """Of texts that were still being written, say."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _next(audio: AsyncIterator[Audio]) -> Audio | None:
    return await anext(audio, None)


async def _from_thread(pieces: Iterable[str]) -> AsyncIterator[str]:
    """The iterable may block; the event loop must not."""
    iterator = iter(pieces)
    while (piece := await asyncio.to_thread(next, iterator, None)) is not None:
        yield piece
