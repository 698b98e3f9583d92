"""A long answer is being spoken; Enter interrupts it. What was heard, and what was not, is printed.

    python examples/barge_in.py

This is what a voice agent does when its user starts to talk: the sound stops at once, and the
history of the conversation gets the words that were really heard.
"""

import argparse
import asyncio
import sys

from chatterboxd_client import connected, say

ANSWER = (
    "There are many things to say about that. The first is that nobody likes a long answer. "
    "The second is that a good listener can be interrupted at any time. The third, which you will"
    " probably not hear, is that this sentence goes on for much longer than it has any right to."
)


async def enter() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.readline()


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="ws://127.0.0.1:8765")
    parser.add_argument("--token", help="if the daemon asks for one")
    wanted = parser.parse_args()
    async with connected(wanted.url, token=wanted.token) as client:
        speaking = await say(client, ANSWER)
        playing = asyncio.create_task(speaking.play())
        interrupting = asyncio.create_task(enter())
        await asyncio.wait({playing, interrupting}, return_when=asyncio.FIRST_COMPLETED)
        if not playing.done():
            cancelled = await speaking.cancel()
            sys.stdout.write(f"heard:     {cancelled.text_spoken}\n")
            sys.stdout.write(f"not heard: {cancelled.text_remaining}\n")
        interrupting.cancel()
        await playing


if __name__ == "__main__":
    asyncio.run(main())
