"""URL KEY VOICE FOLDER in (https; SSL_CERT_FILE names whom to trust); FOLDER/*.* and one JSON line
out: the `elevenlabs` package as it is.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from websockets.exceptions import WebSocketException

TEXT = "The train leaves at nine. Please be at the station early."
LONG = "This is one more sentence that nobody will hear to its end. " * 12


def pieces(text: str) -> Iterator[str]:
    for word in text.split():
        yield word + " "


def main(url: str, key: str, voice: str, folder: Path) -> dict[str, object]:
    client = ElevenLabs(base_url=url, api_key=key)
    for name, audio_format in (("stream.pcm", "pcm_24000"), ("stream.mp3", "mp3_44100_128")):
        spoken = client.text_to_speech.convert_realtime(
            voice, text=pieces(TEXT), output_format=audio_format
        )
        (folder / name).write_bytes(b"".join(spoken))
    interrupted = client.text_to_speech.convert_realtime(
        voice, text=pieces(LONG), output_format="pcm_24000"
    )
    first = next(interrupted)
    interrupted.close()
    return {
        "interrupted_after": len(first),
        "voices": [found.voice_id for found in client.voices.get_all().voices],
        "errors": {
            "key": failure(ElevenLabs(base_url=url, api_key="not-the-right-key-at-all"), voice),
            "voice": failure(client, "nobody"),
        },
    }


def failure(client: ElevenLabs, voice: str) -> list[object]:
    try:
        b"".join(client.text_to_speech.convert_realtime(voice, text=pieces(TEXT)))
    except ApiError as error:
        return [type(error).__name__, error.status_code, str(error.body)]
    except WebSocketException as error:
        return [type(error).__name__, None, str(error)]
    return ["nothing", None, "audio came"]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:4], Path(sys.argv[4]))) + "\n")
