"""Folders laid out like the official ones, every variant at a small size, through the real daemon:
files, vocabularies, `conds.pt`, languages, options. What is said is noise.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from chatterbox.api import TAGS
from chatterbox.checkpoint import t3_kind
from chatterbox.config import ModelConfig
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.t3.build import build_t3
from chatterbox.variants import VARIANTS
from chatterboxd_client.listening import Audio
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon
from daemon.wire.protocol import AudioEnd, Warned
from tools.make_seeded_checkpoint import write_vocabulary, write_voice

LONGEST_TEST_S = 240.0
DEAD = {
    "t3 gpt2": {"tfmr.wte.weight": (7, 3), "text_head.weight": (7, 3)},
    "t3 llama": {"tfmr.embed_tokens.weight": (8, 3), "text_head.weight": (7, 3)},
}


def small(config: ModelConfig) -> ModelConfig:
    """The variant with few layers; whatever the files and the voice fix stays."""
    return replace(
        config,
        noise_frames=600,
        text=replace(config.text, max_speech_per_text_token=2.0),
        t3=replace(
            config.t3,
            layers=2,
            channels=32,
            heads=2,
            mlp_channels=48,
            max_text_tokens=192,
            max_speech_tokens=120,
        ),
        flow=replace(
            config.flow,
            encoder_channels=16,
            encoder_heads=2,
            encoder_mlp_channels=16,
            encoder_blocks=1,
            upsampled_blocks=1,
            estimator_channels=16,
            estimator_heads=2,
            estimator_head_channels=8,
            estimator_transformers=1,
            estimator_mid_stages=1,
            steps=2,
        ),
        vocoder=replace(config.vocoder, base_channels=16, f0_channels=8),
    )


def write_folder(folder: Path, config: ModelConfig) -> None:
    """As the hub has it, dead tensors and the models of a clip included, with random weights."""
    torch.manual_seed(4)
    t3 = build_t3(config.t3).state_dict()
    dead = {name: torch.zeros(shape) for name, shape in DEAD[t3_kind(config)].items()}
    save_file(t3 | dead, folder / config.files.t3)
    s3gen: dict[str, Tensor] = {"tokenizer.window": torch.zeros(4)}
    s3gen["speaker_encoder.head.conv1.weight"] = torch.zeros(2, 2)
    for prefix, module in (("flow.", Flow(config.flow)), ("mel2wav.", HiFT(config.vocoder))):
        s3gen |= {prefix + name: tensor for name, tensor in module.state_dict().items()}
    s3gen["mel2wav.conv_post.bias"] += 1.0  # audible
    save_file(s3gen, folder / config.files.s3gen)
    write_vocabulary(folder, config)
    write_voice(folder, config)
    (folder / "config.json").write_text(json.dumps(asdict(config)), encoding="utf-8")


def with_daemon(folder: Path, scenario: Callable[[SpeechClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with (
            own_daemon(["--slots", "2", "--model", str(folder)]) as daemon,
            await SpeechClient.connect(daemon.url) as client,
        ):
            await asyncio.wait_for(scenario(client), LONGEST_TEST_S)

    asyncio.run(run())


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "multilingual_v3"])
def test_a_variant_speaks(variant: str, tmp_path: Path) -> None:
    """Each has other files, another vocabulary, another order of text, other options."""
    config = small(VARIANTS[variant])
    write_folder(tmp_path, config)

    async def scenario(client: SpeechClient) -> None:
        assert client.begin.model == variant
        assert tuple(client.begin.languages) == config.languages
        names = {option.name for option in client.begin.options}
        assert ("cfg_weight" in names) == config.t3.guided
        assert ("top_k" in names) == (not config.t3.guided)
        assert client.begin.tags == (() if config.t3.guided else TAGS)
        assert client.begin.phonemes == ""
        options = {"cfg_weight": 0.0} if config.t3.guided else {}
        heard = []
        for language in (config.languages[0], config.languages[-1]):
            context = await client.open(
                format="pcm_s16le",
                seed=2,
                language=language,
                options=options,
                lexicon={"there": "/x/"},
                max_lead_ms=60_000,
            )
            await context.send_text("Hello there [laugh], 水 again.")
            await context.end()
            events = [event async for event in context.events()]
            assert isinstance(context.ending, AudioEnd), context.ending
            heard.append(np.concatenate([e.samples for e in events if isinstance(e, Audio)]))
            codes = {event.code for event in events if isinstance(event, Warned)}
            # Chinese takes long to say, so a segment may hold the tag alone.
            codes -= {"runaway_cut", "unspeakable"}
            assert codes <= {"unknown_characters", "skipped_tag", "lexicon_phonemes"}
            # Byte pairs know every character, and tags; the small vocabularies do not.
            is_small = config.text.front_end != "gpt2"
            assert ("unknown_characters" in codes) == is_small
            assert ("skipped_tag" in codes) <= is_small
            assert "lexicon_phonemes" in codes, "these models read letters"
        assert all(len(samples) > 12_000 and samples.any() for samples in heard)
        if len(config.languages) > 1:
            # The language is a token of the text: another one, another reading.
            assert len(heard[0]) != len(heard[1]) or (heard[0] != heard[1]).any()

    with_daemon(tmp_path, scenario)
