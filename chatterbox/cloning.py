"""Paths of clips in, one JSON object a line; files of voices out: the process that hears strangers'
audio, so that no daemon has to.

    python -m chatterbox.cloning --model MODEL

First line out: {"ready": true, "model": NAME}, or {"error": WHY} and the end. Then for each line
in, {"clip": PATH, "out": PATH}, one line out: {"ok": true, "seconds": S, "cached": BOOL,
"warnings": [TEXT]}, or {"error": WHAT IS WRONG AND WHAT TO DO}, or {"failed": WHY} where the clip
may be a good one. It ends when its input does.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import torch

from chatterbox.checkpoint import CheckpointError
from chatterbox.conditioning.cloner import Cloner
from chatterbox.conditioning.voice_cache import VoiceCache
from chatterbox.config import ConfigError
from chatterbox.variants import find_checkpoint
from chatterbox.voice import VoiceError

_LOG = logging.getLogger("chatterbox.cloning")
NO_VOICE = "no voice could be made of the clip; the worker's log says why"


def serve(cloner: Cloner, requests: Iterable[str], answers: TextIO) -> None:
    """Answer every line of `requests`, in order."""
    for line in requests:
        _say(answers, _answer(cloner, line))


def _answer(cloner: Cloner, line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
        clip, out = Path(request["clip"]), Path(request["out"])
    except (ValueError, TypeError, KeyError):
        return {"error": 'a request is {"clip": PATH, "out": PATH} in one line of JSON'}
    try:
        cloned = cloner.clone(clip, out)
    except VoiceError as error:
        return {"error": str(error)}
    except (OSError, MemoryError, RuntimeError, ValueError):
        # One clip that torch or the disk cannot take must not cost the next one its answer.
        _LOG.exception("%s", clip)
        return {"failed": NO_VOICE}
    return {
        "ok": True,
        "seconds": round(cloned.seconds, 3),
        "cached": cloned.is_cached,
        "warnings": list(cloned.warnings),
    }


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _own_stdout() -> TextIO:
    """The real standard output, for answers alone: what any library prints goes to the log."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--model", required=True, help="as the daemon's --model")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="keep voices by their clip")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
    torch.set_num_threads(arguments.threads)
    answers = _own_stdout()
    try:
        folder, config = find_checkpoint(arguments.model)
        cache = VoiceCache(arguments.cache) if arguments.cache else None
        cloner = Cloner(folder, config, cache)
        cloner.load()
    except (ConfigError, CheckpointError, OSError) as error:
        _say(answers, {"error": str(error)})
        return 1
    _say(answers, {"ready": True, "model": config.name})
    serve(cloner, sys.stdin, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
