"""PORT KEY FOLDER in (no key is needed here); FOLDER/*.pcm and one JSON line out: the `wyoming`
package's client as Home Assistant uses it, and `wyoming-bench`."""

import asyncio
import json
import sys
from pathlib import Path

from wyoming.audio import AudioChunk, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)
from wyoming_bench.tts.client import measure_once

TEXT = "The train leaves at nine. Please be at the station early."
LONG = "This is one more sentence that nobody will hear to its end. " * 40


async def heard(client: AsyncTcpClient, last: type[AudioStop | SynthesizeStopped]) -> bytes:
    audio = b""
    while True:
        event = await client.read_event()
        assert event is not None, "it ended too early"
        if AudioChunk.is_type(event.type):
            audio += AudioChunk.from_event(event).audio
        if last.is_type(event.type):
            return audio


async def main(port: int, folder: Path) -> dict[str, object]:
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(SynthesizeStart().event())
        for word in TEXT.split(" "):
            await client.write_event(SynthesizeChunk(text=word + " ").event())
        await client.write_event(Synthesize(text=TEXT).event())
        await client.write_event(SynthesizeStop().event())
        (folder / "stream.pcm").write_bytes(await heard(client, SynthesizeStopped))
        await client.write_event(Synthesize(text=TEXT).event())
        (folder / "whole.pcm").write_bytes(await heard(client, AudioStop))
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Synthesize(text=LONG).event())
        event = await client.read_event()
        while event is not None and not AudioChunk.is_type(event.type):
            event = await client.read_event()
    async with AsyncTcpClient("127.0.0.1", port) as client:
        voice = SynthesizeVoice(name="nobody")
        await client.write_event(Synthesize(text=TEXT, voice=voice).event())
        event = await client.read_event()
        error = Error.from_event(event).code if event and Error.is_type(event.type) else None
    bench = {}
    for mode in ("streaming", "non_streaming"):
        measured = await measure_once(
            "127.0.0.1", port, mode, TEXT, None, None, connect_timeout=10, read_timeout=60
        )
        assert measured.ok, measured.error
        bench[mode] = measured.ttft_s is not None and measured.ttft_s < measured.total_s
    return {"bench": bench, "error": error}


if __name__ == "__main__":
    report = asyncio.run(main(int(sys.argv[1]), Path(sys.argv[3])))
    sys.stdout.write(json.dumps(report) + "\n")
