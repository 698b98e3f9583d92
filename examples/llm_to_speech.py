"""A language model's tokens on standard input in, speech out while they come.

    ollama run llama3.2 "Tell me a story." | python examples/llm_to_speech.py
    echo "Hello there." | python examples/llm_to_speech.py --out hello.wav

From the checkout (PYTHONPATH=. or its folder as the current one); a daemon runs: `make serve`.
"""

import argparse
import asyncio
import codecs
import os
import stat
import sys
from collections.abc import AsyncIterator

from chatterboxd_client import connected, say


async def tokens() -> AsyncIterator[str]:
    """Whatever has been written so far, as soon as it is there."""
    reader = asyncio.StreamReader()
    if stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):  # a file, which the loop cannot wait for
        reader.feed_data(sys.stdin.buffer.read())
        reader.feed_eof()
    else:
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while piece := await reader.read(4096):
        text = decoder.decode(piece)  # a character may be cut in two
        sys.stderr.write(text)
        yield text


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="ws://127.0.0.1:8765")
    parser.add_argument("--token", help="if the daemon asks for one")
    parser.add_argument("--out", help="write a WAV file instead of playing")
    wanted = parser.parse_args()
    async with connected(wanted.url, token=wanted.token) as client:
        speaking = await say(client, tokens())
        if wanted.out is None:
            spoken = await speaking.play()
        else:
            spoken = await speaking.collect()
            spoken.write_wav(wanted.out)
    first_audio_ms = spoken.timings.first_audio_ms
    if first_audio_ms is not None:
        sys.stderr.write(f"\nfirst audio {first_audio_ms:.0f} ms after the first token\n")


if __name__ == "__main__":
    asyncio.run(main())
