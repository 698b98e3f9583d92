"""What `--model` says → a folder and its config: the bundled checkpoint, an official one by its
name, a folder with a config.json, or one laid out like the official repositories.

The official ones carry no config of ours; which variant a folder holds is seen by its files. Sizes
are those of the released checkpoints.
"""

from dataclasses import replace
from pathlib import Path

from chatterbox.config import (
    TOKEN_RATE,
    ClipConfig,
    ConfigError,
    FilesConfig,
    FlowConfig,
    ModelConfig,
    TextConfig,
    VocoderConfig,
)
from chatterbox.hub.pins import pinned_models
from chatterbox.t3.variants import SAMPLING_VARIANTS, T3_VARIANTS

BUNDLED = Path(__file__).parent / "checkpoints" / "tiny"
OWN_CONFIG = "config.json"

# Trained with full attention: the first ten seconds are solved with all that precedes them.
_PREFIX = 10 * TOKEN_RATE
# fmt: off
LANGUAGES = (
    "en", "ar", "da", "de", "el", "es", "fi", "fr", "he", "hi", "it", "ja",
    "ko", "ms", "nl", "no", "pl", "pt", "ru", "sv", "sw", "tr", "zh",
)
# fmt: on
"""What the multilingual checkpoints speak, the default first."""

_EULER = FlowConfig(meanflow=False, steps=10, guidance=0.7, whole_prefix_tokens=_PREFIX)
_MEANFLOW = FlowConfig(meanflow=True, steps=2, whole_prefix_tokens=_PREFIX)
_HIFT = VocoderConfig(fade_in=True)

_ENGLISH = ModelConfig(
    name="english",
    files=FilesConfig(t3="t3_cfg.safetensors"),
    # A piece of the vocabulary is seldom longer than four letters; a digit is a word.
    text=TextConfig(front_end="english", max_speech_per_text_token=16.0),
    t3=T3_VARIANTS["english"],
    flow=_EULER,
    vocoder=_HIFT,
    sampling=SAMPLING_VARIANTS["english"],
)
_MULTILINGUAL = replace(
    _ENGLISH,
    name="multilingual_v2",
    languages=LANGUAGES,
    files=FilesConfig(t3="t3_mtl23ls_v2.safetensors"),
    text=TextConfig(
        front_end="multilingual",
        vocabulary="grapheme_mtl_merged_expanded_v1.json",
        max_speech_per_text_token=16.0,
    ),
    t3=T3_VARIANTS["multilingual"],
    sampling=SAMPLING_VARIANTS["multilingual"],
)
_TURBO = ModelConfig(
    name="turbo",
    files=FilesConfig(t3="t3_turbo_v1.safetensors", s3gen="s3gen_meanflow.safetensors"),
    # A byte pair may be three digits, spoken in five words.
    text=TextConfig(front_end="gpt2", max_speech_per_text_token=45.0),
    t3=T3_VARIANTS["turbo"],
    flow=_MEANFLOW,
    vocoder=_HIFT,
    clip=ClipConfig(min_s=5.0, loudness_lufs=-27.0),
    sampling=SAMPLING_VARIANTS["turbo"],
)
_VARIANTS = (
    _ENGLISH,
    _MULTILINGUAL,
    replace(
        _MULTILINGUAL,
        name="multilingual_v3",
        files=FilesConfig(t3="t3_mtl23ls_v3.safetensors"),
    ),
    _TURBO,
    replace(
        _TURBO,
        name="nano",
        files=FilesConfig(t3="t3_nano_v1.safetensors", s3gen="s3gen_meanflow.safetensors"),
        t3=T3_VARIANTS["nano"],
        sampling=SAMPLING_VARIANTS["nano"],
    ),
)

VARIANTS = {config.name: config for config in _VARIANTS}
"""The official checkpoints, by the name that `FOLDER:NAME` chooses them with."""


def find_checkpoint(model: str | None, *, offline: bool = False) -> tuple[Path, ModelConfig]:
    """`model` is the name of an official checkpoint, which is fetched unless it is there or that is
    forbidden; or a folder, or FOLDER:VARIANT where a folder holds several; None is the bundled one.
    A name wins over a folder that is called so: that is `./turbo`. Raises `ConfigError` or
    `HubError`.
    """
    if model is None:
        return BUNDLED, ModelConfig.load(BUNDLED / OWN_CONFIG)
    if model in pinned_models():
        # The hub's library takes a third of a second, which the bundled voice need not wait for.
        from chatterbox.hub.checkout import checkout

        return checkout(model, offline=offline), VARIANTS[pinned_models()[model].name]
    name, _, chosen = model.rpartition(":")
    if chosen in VARIANTS:
        return Path(name), VARIANTS[chosen]
    folder = Path(model)
    if not folder.is_dir():
        names = ", ".join(pinned_models())
        raise ConfigError(
            f"{folder}: no such folder; --model takes {names}, or the folder of a checkpoint"
        )
    if (folder / OWN_CONFIG).is_file():
        return folder, ModelConfig.load(folder / OWN_CONFIG)
    found = [config for config in VARIANTS.values() if (folder / config.files.t3).is_file()]
    if len(found) == 1:
        return folder, found[0]
    if found:
        choices = ", ".join(f"{folder}:{config.name}" for config in found)
        raise ConfigError(f"{folder} holds several checkpoints; choose one of {choices}")
    known = ", ".join(config.files.t3 for config in VARIANTS.values())
    raise ConfigError(f"{folder}: no checkpoint there; it holds a {OWN_CONFIG} or one of {known}")
