"""SERVICE ADDRESS KEY VOICE FOLDER in; FOLDER/*.pcm and one JSON line out: a service of Pipecat in
the pipeline of a voice agent, unmodified but for address and key.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipecat.services.cartesia.tts import CartesiaTTSService
from pipecat.services.deepgram.flux.tts import DeepgramFluxTTSService
from pipecat.services.deepgram.tts import DeepgramTTSService
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.services.tts_service import TextAggregationMode, TTSService
from voice_agent import LONG, RATE, TEXT, Agent, failure

WRONG_KEY = "not-the-right-key-at-all"
INTERRUPT_AT_S = 2.5


def openai(address: str, key: str, voice: str) -> TTSService:
    return OpenAITTSService(
        base_url=f"http://{address}/v1",
        api_key=key,
        settings=OpenAITTSService.Settings(voice=voice),
    )


def elevenlabs(address: str, key: str, voice: str, **options: object) -> TTSService:
    return ElevenLabsTTSService(
        url=f"ws://{address}",
        api_key=key,
        settings=ElevenLabsTTSService.Settings(voice=voice),
        **options,
    )


def deepgram(address: str, key: str, voice: str) -> TTSService:
    return DeepgramTTSService(
        base_url=f"ws://{address}", api_key=key, settings=DeepgramTTSService.Settings(voice=voice)
    )


def flux(address: str, key: str, voice: str) -> TTSService:
    return DeepgramFluxTTSService(
        url=f"ws://{address}/v2/speak",
        api_key=key,
        settings=DeepgramFluxTTSService.Settings(voice=voice),
    )


def cartesia(address: str, key: str, voice: str, **options: object) -> TTSService:
    return CartesiaTTSService(
        url=f"ws://{address}/tts/websocket",
        api_key=key,
        settings=CartesiaTTSService.Settings(voice=voice),
        **options,
    )


TOKENS = {"text_aggregation_mode": TextAggregationMode.TOKEN}
"""A language model's tokens as they come, not sentences that Pipecat has put together."""


SERVICES: dict[str, Callable[[str, str, str], TTSService]] = {
    "openai": openai,
    "elevenlabs": elevenlabs,
    "deepgram": deepgram,
    "flux": flux,
    "cartesia": cartesia,
    "elevenlabs-tokens": partial(elevenlabs, **TOKENS),
    "cartesia-tokens": partial(cartesia, **TOKENS),
}


async def main(service: str, address: str, key: str, voice: str, folder: Path) -> dict[str, object]:
    make = partial(SERVICES[service], address)
    async with Agent(make(key, voice)) as agent:
        heard = await agent.say(TEXT)
        cut = await agent.say(LONG, interrupt_at_s=INTERRUPT_AT_S)
        after = await agent.say(TEXT)
    (folder / "heard.pcm").write_bytes(heard.audio)
    (folder / "after.pcm").write_bytes(after.audio)
    (folder / "cut.raw").write_bytes(cut.audio)
    report: dict[str, object] = {
        name: {"kinds": turn.kinds, "words": turn.words, "said": turn.said}
        for name, turn in (("heard", heard), ("cut", cut), ("after", after))
    }
    report["errors"] = agent.errors
    report["sounded_s"] = cut.sounded_s
    report["cut_s"] = len(cut.audio) / 2 / RATE
    report["wrong_key"] = await failure(lambda: make(WRONG_KEY, voice))
    if service != "openai":  # it lets no voice pass that is not OpenAI's
        report["wrong_voice"] = await failure(lambda: make(key, "nobody"))
    return report


if __name__ == "__main__":
    report = asyncio.run(main(*sys.argv[1:5], Path(sys.argv[5])))
    sys.stdout.write(json.dumps(report) + "\n")
