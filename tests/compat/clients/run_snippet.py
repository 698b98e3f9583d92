"""A file with a snippet of docs/connect.md in; it is run, and what it names `tts` or `flux` speaks.
One JSON line out: bytes of audio by name.
"""

import asyncio
import json
import runpy
import sys
from typing import Any

TEXT = "The train leaves at nine."


async def by_pipecat(service: Any) -> int:
    from voice_agent import Agent

    async with Agent(service) as agent:
        turn = await agent.say(TEXT)
    assert not agent.errors, agent.errors
    return len(turn.audio)


async def by_livekit(speaker: Any) -> int:
    from livekit.agents.utils import http_context

    num_bytes = 0
    async with http_context.open():
        if speaker.capabilities.streaming:
            stream = speaker.stream()
            stream.push_text(TEXT)
            stream.end_input()
        else:
            stream = speaker.synthesize(TEXT)
        async for event in stream:
            num_bytes += len(bytes(event.frame.data))
        await stream.aclose()
        await speaker.aclose()
    return num_bytes


def main(path: str) -> dict[str, int]:
    names = runpy.run_path(path, run_name="__main__")
    spoken = {}
    for name in ("tts", "flux"):
        if name in names:
            service = names[name]
            speak = by_pipecat if "pipecat" in type(service).__module__ else by_livekit
            spoken[name] = asyncio.run(speak(service))
    return spoken


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(sys.argv[1])) + "\n")
