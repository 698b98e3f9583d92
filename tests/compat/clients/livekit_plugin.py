"""BASE_URL KEY FOLDER in; FOLDER/*.pcm and one JSON line out: LiveKit's OpenAI plugin as it is."""

import asyncio
import json
import sys
from pathlib import Path

from livekit.agents import APIConnectOptions, APIStatusError
from livekit.plugins import openai

TEXT = "The train leaves at nine. Please be at the station early."
LONG = "This is one more sentence that nobody will hear to its end. " * 40
ONCE = APIConnectOptions(max_retry=0)


async def main(base_url: str, key: str, folder: Path) -> dict[str, object]:
    report: dict[str, object] = {}
    # Its own default asks for events of mp3; tts-1 for plain audio.
    for name, model, audio_format in (
        ("events", "gpt-4o-mini-tts", "pcm"),
        ("events_mp3", "gpt-4o-mini-tts", "mp3"),
        ("audio", "tts-1", "pcm"),
        ("audio_opus", "tts-1", "opus"),
    ):
        speaker = openai.TTS(
            base_url=base_url, api_key=key, model=model, response_format=audio_format
        )
        audio = b""
        is_final = False
        async with speaker.synthesize(TEXT, conn_options=ONCE) as stream:
            async for event in stream:
                assert event.frame.sample_rate == 24_000
                audio += bytes(event.frame.data)
                is_final = event.is_final
        (folder / f"{name}.pcm").write_bytes(audio)
        report[name] = is_final
        await speaker.aclose()
    speaker = openai.TTS(base_url=base_url, api_key=key, model="tts-1", response_format="pcm")
    stream = speaker.synthesize(LONG, conn_options=ONCE)
    async for event in stream:
        report["interrupted_after"] = len(bytes(event.frame.data))
        break
    await stream.aclose()
    stranger = openai.TTS(base_url=base_url, api_key="not-the-right-key-at-all")
    try:
        async with stranger.synthesize(TEXT, conn_options=ONCE) as wrong:
            async for _event in wrong:
                report["error"] = "audio came"
    except APIStatusError as error:
        report["error"] = error.status_code
    return report


if __name__ == "__main__":
    report = asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
    sys.stdout.write(json.dumps(report) + "\n")
