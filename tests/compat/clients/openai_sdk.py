"""BASE_URL KEY FOLDER in; FOLDER/*.pcm and one JSON line out: the `openai` package as it is."""

import asyncio
import json
import sys
from pathlib import Path

import openai

TEXT = "The train leaves at nine. Please be at the station early."
LONG = "This is one more sentence that nobody will hear to its end. " * 40


def main(base_url: str, key: str, folder: Path) -> dict[str, object]:
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)
    wanted = {"model": "tts-1", "voice": "alloy", "input": TEXT}
    client.audio.speech.create(**wanted, response_format="pcm").write_to_file(folder / "sync.pcm")
    for name in ("mp3", "opus", "flac", "aac", "wav"):
        data = client.audio.speech.create(**wanted, response_format=name).read()
        (folder / f"sync.{name}").write_bytes(data)
    with client.audio.speech.with_streaming_response.create(
        **wanted, response_format="pcm"
    ) as response:
        pieces = list(response.iter_bytes(4096))
    (folder / "stream.pcm").write_bytes(b"".join(pieces))
    return {
        "num_pieces": len(pieces),
        "models": [model.id for model in client.models.list()],
        "errors": errors(client, base_url),
        **asyncio.run(asynchronous(base_url, key, folder)),
    }


def errors(client: openai.OpenAI, base_url: str) -> dict[str, object]:
    found: dict[str, object] = {}
    stranger = openai.OpenAI(base_url=base_url, api_key="not-the-right-key-at-all", max_retries=0)
    for name, speaker, voice in (("token", stranger, "alloy"), ("voice", client, "nobody")):
        try:
            speaker.audio.speech.create(model="tts-1", voice=voice, input=TEXT)
        except openai.APIStatusError as error:
            found[name] = [type(error).__name__, error.code, error.param, error.status_code]
    return found


async def asynchronous(base_url: str, key: str, folder: Path) -> dict[str, object]:
    async with openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        response = await client.audio.speech.create(
            model="gpt-4o-mini-tts", voice="nova", input=TEXT, response_format="pcm"
        )
        (folder / "async.pcm").write_bytes(await response.aread())
        async with client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input=LONG, response_format="pcm"
        ) as streamed:
            async for piece in streamed.iter_bytes(4096):
                return {"interrupted_after": len(piece)}
    raise AssertionError("nothing came")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))) + "\n")
