"""A clip of sound up, a voice that speaks down, with all that is real: the command, the models that
listen, the limits of their process. Weights are random, so the voice is nobody's.
"""

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from chatterbox.conditioning.speaker_encoder import SpeakerEncoder
from chatterbox.conditioning.speech_tokenizer import SpeechTokenizer
from chatterbox.conditioning.voice_encoder import VoiceEncoder
from chatterbox.config import ModelConfig
from chatterbox.variants import VARIANTS
from chatterboxd_client.context import DaemonError
from chatterboxd_client.listening import Audio
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon
from tests.e2e.test_official_shapes import small, write_folder
from tests.model.listening_checkpoint import SMALL, write_clip

LONGEST_TEST_S = 240.0


def write_whole_folder(folder: Path, variant: str) -> None:
    """A small official checkpoint, with the models that listen."""
    config: ModelConfig = replace(small(VARIANTS[variant]), listening=SMALL)
    write_folder(folder, config)
    torch.manual_seed(7)
    tensors = {
        name: tensor
        for name, tensor in load_file(folder / config.files.s3gen).items()
        if not name.startswith(("tokenizer.", "speaker_encoder."))
    }
    tokenizer = SpeechTokenizer(channels=SMALL.channels, heads=SMALL.heads, blocks=SMALL.blocks)
    for prefix, module in (("tokenizer.", tokenizer), ("speaker_encoder.", SpeakerEncoder())):
        tensors |= {prefix + name: tensor for name, tensor in module.state_dict().items()}
    save_file(tensors, folder / config.files.s3gen)
    encoder = VoiceEncoder(config.t3.speaker_channels)
    save_file(encoder.state_dict(), folder / config.files.voice_encoder)
    (folder / "config.json").write_text(json.dumps(asdict(config)), encoding="utf-8")


async def said(client: SpeechClient, voice: str | None) -> NDArray[np.float32]:
    context = await client.open(voice=voice, format="pcm_s16le", seed=2, max_lead_ms=60_000)
    await context.send_text("Hello there again.")
    await context.end()
    return np.concatenate([e.samples async for e in context.events() if isinstance(e, Audio)])


@pytest.mark.parametrize("variant", ["english", "turbo"])
def test_a_clip_becomes_a_voice_that_speaks(variant: str, tmp_path: Path) -> None:
    """Both backbones: one has prompts of any length in its prefix, the other squeezes them."""
    write_whole_folder(tmp_path, variant)
    state, audit = tmp_path / "state", tmp_path / "audit.jsonl"
    clip = write_clip(tmp_path / "clip.flac", 6.5).read_bytes()
    short = write_clip(tmp_path / "short.wav", 0.3).read_bytes()

    async def run() -> None:
        arguments = ["--slots", "2", "--model", str(tmp_path), "--cloning", "all"]
        arguments += ["--state-folder", str(state), "--audit-file", str(audit)]
        async with asyncio.timeout(LONGEST_TEST_S), own_daemon(arguments) as daemon:
            async with await SpeechClient.connect(daemon.url) as client:
                usual = await said(client, None)
                for wrong, why in ((short, "s are needed"), (b"Dear Sir, " * 99, "not audio")):
                    with pytest.raises(DaemonError, match=why) as refused:
                        await client.clone_voice(wrong, name="x", consent=True)
                    assert refused.value.failed.code == "clip_unfit", refused.value
                ready = await client.clone_voice(clip, name="Me", consent=True)
                assert ready.seconds == pytest.approx(6.5, abs=0.6)
                own = await said(client, ready.voice)
            assert own.size > 12_000
            assert np.any(own)
            assert own.size != usual.size or np.any(own != usual)
        async with (
            asyncio.timeout(LONGEST_TEST_S),
            own_daemon(arguments) as daemon,
            await SpeechClient.connect(daemon.url) as client,
        ):
            again = await said(client, ready.voice)
            assert np.array_equal(again, own), "the same voice after a restart"
            await client.delete_voice(ready.voice)
            with pytest.raises(DaemonError):
                await said(client, ready.voice)

    asyncio.run(run())
    events = [json.loads(line)["event"] for line in audit.read_text().splitlines()]
    assert events == ["upload_failed", "upload_failed", "voice_uploaded", "voice_deleted"]
    assert not list(state.rglob("*.safetensors"))
