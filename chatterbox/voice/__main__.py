"""A clip and the name of a checkpoint in, a voice file out, step by step on standard error.

python -m chatterbox.voice clip.wav --out name.safetensors --model turbo
"""

import argparse
import logging
import shlex
import sys
import time
from pathlib import Path

import torch

from chatterbox.checkpoint import CheckpointError, can_clone
from chatterbox.conditioning.audio_file import LONGEST_CLIP_S, READABLE
from chatterbox.conditioning.cloner import Cloner
from chatterbox.conditioning.voice_cache import VoiceCache, users_cache
from chatterbox.config import ConfigError
from chatterbox.hub.pins import HubError, pinned_models
from chatterbox.variants import find_checkpoint
from chatterbox.voice import VoiceError


def main() -> int:
    arguments = _parser().parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # each request to the hub
    torch.set_num_threads(arguments.threads)
    try:
        return _make(arguments)
    except (VoiceError, CheckpointError, ConfigError, HubError, OSError) as error:
        sys.stderr.write(f"python -m chatterbox.voice: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _make(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    if out.suffix != ".safetensors":
        raise VoiceError(f"--out {out}: the name of a voice ends in .safetensors")
    if not out.parent.is_dir():
        raise VoiceError(f"--out {out}: there is no folder {out.parent}")
    if out.is_dir():
        raise VoiceError(f"--out {out}: that is a folder, not the name of a file")
    started_s = time.monotonic()
    _tell(f"looking for {arguments.model}")
    folder, config = find_checkpoint(arguments.model, offline=arguments.offline)
    if not can_clone(folder, config):
        raise CheckpointError(
            f"{folder} has none of the models that listen, so it cannot clone a voice;"
            f" {', '.join(pinned_models())} can"
        )
    cache = None if arguments.no_cache else VoiceCache(users_cache())
    cloner = Cloner(folder, config, cache, on_step=_tell)
    cloned = cloner.clone(arguments.clip, out)
    for warning in cloned.warnings:
        _tell(f"warning: {warning}")
    took = "from the cache" if cloned.is_cached else f"in {time.monotonic() - started_s:.1f} s"
    daemon = shlex.join(
        ["python", "-m", "daemon", "--model", arguments.model, "--voices", str(out.parent)]
    )
    sys.stdout.write(
        f"{out}: the voice of {cloned.seconds:.1f} s of {arguments.clip.name} for {config.name},"
        f" {took}; `{daemon}` offers it as {out.stem!r}\n"
    )
    return 0


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chatterbox.voice",
        description="Make a voice of a clip of somebody who has agreed to it.",
    )
    parser.add_argument(
        "clip",
        type=Path,
        help=f"{', '.join(READABLE)}; one speaker, no music, at most {LONGEST_CLIP_S:g} s;"
        " 10 to 20 s are best",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="NAME.safetensors",
        help="where to write the voice; clients will call it NAME",
    )
    parser.add_argument(
        "--model",
        required=True,
        help=f"which checkpoint it is for: {', '.join(pinned_models())}, or the folder of one",
    )
    parser.add_argument("--offline", action="store_true", help="fetch nothing from the hub")
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help=f"leave no copy of the voice in {users_cache()}".replace("%", "%%"),
    )
    parser.add_argument(
        "--threads", type=_positive, default=1, metavar="N", help="processor cores to use (1)"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
