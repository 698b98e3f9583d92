"""The text of one Deepgram turn in; its speech, once its turn has come, and what was heard out.

A turn is what is said up to a flush. Knows no socket and no other turn.
"""

import asyncio
import contextlib

from chatterbox.api import SAMPLE_RATE
from daemon.speaking.speech_stream import SpeechStream
from daemon.wire.errors import TextAfterEnd


class Turn:
    """Its speech begins to be made when its turn comes, so that what waits holds no slot. `owed` is
    closed when nothing of it is owed to the client any more."""

    def __init__(self, *, owed: contextlib.ExitStack) -> None:
        self.num_chars = 0
        self.num_flushes = 0
        """Those that wait for an answer."""
        self.has_failed = False
        """Something of it was not spoken."""
        self.is_flushed = asyncio.Event()
        self.stream: SpeechStream | None = None
        self._waiting_text = ""
        self._tempo = 1.0
        self._owed = owed

    @property
    def sent_ms(self) -> int:
        """Of audio, as the client counts it."""
        if self.stream is None:
            return 0
        return round(self.stream.num_samples_sent * 1000 / SAMPLE_RATE / self._tempo)

    def begin(self, stream: SpeechStream, *, tempo: float) -> None:
        self.stream, self._tempo = stream, tempo
        self._owed.callback(stream.close)
        stream.add_text(self._waiting_text)
        if self.is_flushed.is_set():
            stream.end()

    def add_text(self, text: str) -> None:
        self.num_chars += len(text)
        if self.stream is None:
            self._waiting_text += text
        else:
            with contextlib.suppress(TextAfterEnd):  # it was lost, of which the client will hear
                self.stream.add_text(text)

    def flush(self) -> None:
        self.num_flushes += 1
        if self.is_flushed.is_set():
            return
        self.is_flushed.set()
        if self.stream is not None:
            with contextlib.suppress(TextAfterEnd):
                self.stream.end()

    def cancel(self, *, played_ms: float | None = None) -> tuple[str, str]:
        """What of its text was heard and what was not. `played_ms` as the client counts."""
        if self.stream is None:
            return "", self._waiting_text
        if played_ms is not None:
            played_ms *= self._tempo
        heard = self.stream.cancel(played_ms=played_ms)
        return heard.text_spoken, heard.text_remaining

    def close(self) -> None:
        self._owed.close()
