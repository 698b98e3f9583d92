"""The bundled voice interrupted through Deepgram Flux: what the daemon says was heard, beside what
a recogniser hears of the same audio up to the same place.
"""

import asyncio
import json
from dataclasses import dataclass

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from chatterbox.training.recogniser import heard_words
from chatterboxd_client.spawn import own_daemon

TURNS = (
    ("Would you like to hear the short version or the long one?", 0.85),
    ("I can't find any flights before noon, but there is one at half past two.", 0.45),
    ("The door is unlocked, so please come right in.", 0.7),
    ("Is it true that cats always land on their feet?", 0.3),
    ("You should probably drink some water and get a little rest.", 0.6),
    ("The Amazon carries more water than the Nile, the Danube and the Rhine.", 0.5),
)
"""Texts, and where in their audio somebody talks over them."""
LONGEST_TEST_S = 120.0


@dataclass(frozen=True, slots=True)
class Cut:
    text: str
    audio: bytes
    at_s: float
    text_spoken: str
    text_remaining: str


async def cut(connection: ClientConnection, text: str, *, share: float, start_ms: int) -> Cut:
    """Speaks the text to its end, then says that only this share of it was played."""
    await connection.send(json.dumps({"type": "Speak", "text": text}))
    await connection.send(json.dumps({"type": "Flush"}))
    audio = b""
    while True:
        raw = await connection.recv()
        if isinstance(raw, bytes):
            audio += raw
        elif json.loads(raw)["type"] == "SpeechMetadata":
            break
    played_ms = round(share * json.loads(raw)["audio_duration_ms"])
    offset = {"type": "time_ms", "value": start_ms + played_ms}
    await connection.send(json.dumps({"type": "Interrupt", "playback_offset": offset}))
    answer = json.loads(await connection.recv())
    assert answer["type"] == "SpeechInterrupted"
    return Cut(text, audio, played_ms / 1000, answer["text_spoken"], answer["text_remaining"])


async def cut_all() -> list[Cut]:
    async with own_daemon(["--slots", "2"]) as daemon, asyncio.timeout(LONGEST_TEST_S):
        url = f"{daemon.url.rstrip('/')}/v2/speak?model=flux-heart-en&sample_rate=24000"
        async with connect(url) as connection:
            await connection.recv()
            cuts: list[Cut] = []
            start_ms = 0
            for text, share in TURNS:
                cuts.append(await cut(connection, text, share=share, start_ms=start_ms))
                start_ms += round(1000 * cuts[-1].at_s)
            return cuts


def test_what_was_heard_is_what_a_recogniser_hears() -> None:
    """The history of an agent must have the words that were said, over many turns of one session:
    offsets that drift, or times that are guesses, put words into it that nobody heard."""
    pytest.importorskip("faster_whisper", reason="comes with the training extra")
    for made in asyncio.run(cut_all()):
        assert made.text_spoken + made.text_remaining == made.text
        samples = np.frombuffer(made.audio, dtype="<i2").astype(np.float32) / np.float32(32767)
        heard = [word for word in heard_words(samples) if word.end_s <= made.at_s]
        # The recogniser's own ends are off by 70 ms, and it may split or join a word.
        assert abs(len(made.text_spoken.split()) - len(heard)) <= 1, (made.text_spoken, heard)
