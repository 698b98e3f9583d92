"""An operator's way to a voice: a clip through the command, its file through `--voices`, its name
on the wire.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np

from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon
from tests.e2e.test_cloned_voice import LONGEST_TEST_S, said, write_whole_folder
from tests.model.listening_checkpoint import write_clip


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False
    )


def test_a_voice_of_a_folder_is_offered_and_speaks(tmp_path: Path) -> None:
    """What the command writes is what the daemon reads; one that is called default takes the place
    of the official one, whose owner nobody knows; a broken file is named before anything listens.
    """
    checkpoint, voices = tmp_path / "turbo", tmp_path / "voices"
    checkpoint.mkdir()
    voices.mkdir()
    write_whole_folder(checkpoint, "turbo")
    clip = write_clip(tmp_path / "clip.ogg", 6.5)
    for name in ("ada", "default"):
        made = _run(
            *("chatterbox.voice", str(clip), "--out", str(voices / f"{name}.safetensors")),
            *("--model", str(checkpoint), "--no-cache"),
        )
        assert made.returncode == 0, made.stderr

    async def heard(*names: str | None, extra: tuple[str, ...]) -> list[bytes]:
        arguments = ["--slots", "1", "--model", str(checkpoint), *extra]
        async with (
            asyncio.timeout(LONGEST_TEST_S),
            own_daemon(arguments) as daemon,
            await SpeechClient.connect(daemon.url) as client,
        ):
            assert list(client.begin.voices) == (["ada", "default"] if extra else ["default"])
            samples = [await said(client, name) for name in names]
            assert all(np.any(heard) for heard in samples)
            return [heard.tobytes() for heard in samples]

    (official,) = asyncio.run(heard(None, extra=()))
    ada, default = asyncio.run(heard("ada", None, extra=("--voices", str(voices))))
    assert ada == default, "two files of the same clip"
    assert ada != official
    broken = voices / "eve.safetensors"
    broken.write_bytes((voices / "ada.safetensors").read_bytes()[:-1])
    asked = ("daemon", "--dry-run", "--model", str(checkpoint), "--voices", str(voices))
    refused = _run(*asked)
    assert refused.returncode == 1
    assert f"{broken}: not a whole safetensors file" in refused.stderr
    broken.unlink()
    assert "voices      ada, default" in _run(*asked).stdout
