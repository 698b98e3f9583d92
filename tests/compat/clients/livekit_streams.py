"""SERVICE ADDRESS KEY VOICE FOLDER in; FOLDER/*.pcm and one JSON line out: a plugin of LiveKit,
by its socket, as an agent session uses it; unmodified but for address and key.
"""

import asyncio
import json
import sys
from pathlib import Path

import aiohttp
from livekit.agents import APIConnectOptions, APIError, APIStatusError, tts
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT
from livekit.plugins import cartesia, deepgram, elevenlabs

TEXT = "The train leaves at nine. Please be at the station early."
LONG = "This is one more sentence that nobody will hear to its end. " * 12
RATE = 24_000
WRONG_KEY = "not-the-right-key-at-all"
INTERRUPT_AT_S = 1.0
ONCE = APIConnectOptions(max_retry=0)


def make(
    service: str, address: str, key: str, voice: str, session: aiohttp.ClientSession
) -> tts.TTS:
    match service:
        case "elevenlabs":
            return elevenlabs.TTS(
                base_url=f"http://{address}/v1",
                api_key=key,
                voice_id=voice,
                encoding="pcm_24000",
                http_session=session,
            )
        case "elevenlabs-mp3":  # what it asks for if it is told nothing
            return elevenlabs.TTS(
                base_url=f"http://{address}/v1", api_key=key, voice_id=voice, http_session=session
            )
        case "cartesia":
            return cartesia.TTS(
                base_url=f"http://{address}", api_key=key, voice=voice, http_session=session
            )
        case "deepgram":
            return deepgram.TTS(
                base_url=f"http://{address}/v1/speak",
                api_key=key,
                model=voice,
                http_session=session,
            )
        case "flux":
            return deepgram.TTSv2(
                base_url=f"http://{address}/v2/speak",
                api_key=key,
                model=voice,
                http_session=session,
            )
    raise SystemExit(f"no plugin for {service}")


async def say(speaker: tts.TTS, text: str, *, most_s: float = 1e9) -> dict[str, object]:
    """Word by word, as an agent gets it; left at `most_s`, as an interrupted agent does."""
    stream = speaker.stream(conn_options=ONCE)
    audio = b""
    words: list[tuple[str, float, float]] = []
    is_final = False
    try:
        for word in text.split():
            stream.push_text(word + " ")
        stream.end_input()
        async for event in stream:
            audio += bytes(event.frame.data)
            rate = event.frame.sample_rate
            is_final = event.is_final
            for timed in event.frame.userdata.get(USERDATA_TIMED_TRANSCRIPT, []):
                words.append((str(timed), timed.start_time, timed.end_time))
            if len(audio) / 2 / rate > most_s:
                break
    finally:
        await stream.aclose()
    return {"audio": audio, "rate": rate, "words": words, "is_final": is_final}


async def failure(speaker: tts.TTS) -> dict[str, object]:
    """What an agent learns whose service is refused."""
    try:
        await say(speaker, TEXT)
    except APIStatusError as error:
        return {"status": error.status_code, "message": str(error)}
    except APIError as error:
        return {"status": None, "message": f"{type(error).__name__}: {error}"}
    finally:
        await speaker.aclose()
    return {"status": None, "message": "audio came"}


async def main(service: str, address: str, key: str, voice: str, folder: Path) -> dict[str, object]:
    async with aiohttp.ClientSession() as session:

        def new(key: str = key, voice: str = voice) -> tts.TTS:
            return make(service, address, key, voice, session)

        speaker = new()
        report: dict[str, object] = {}
        for name, text, most_s in (
            ("heard", TEXT, 1e9),
            ("cut", LONG, INTERRUPT_AT_S),
            ("after", TEXT, 1e9),
        ):
            found = await say(speaker, text, most_s=most_s)
            ending = "raw" if name == "cut" else "pcm"
            (folder / f"{name}.{ending}").write_bytes(found.pop("audio"))
            report[name] = found
        if isinstance(speaker, elevenlabs.TTS):
            report["voices"] = [found.id for found in await speaker.list_voices()]
        await speaker.aclose()
        report["wrong_key"] = await failure(new(key=WRONG_KEY))
        report["wrong_voice"] = await failure(new(voice="nobody"))
        return report


if __name__ == "__main__":
    report = asyncio.run(main(*sys.argv[1:5], Path(sys.argv[5])))
    sys.stdout.write(json.dumps(report) + "\n")
