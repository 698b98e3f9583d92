"""An audio file → the file of a voice: decoding, the models that listen, the cache.

The models are loaded when the first clip needs them, once; a clip that the cache knows needs none.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chatterbox.conditioning.audio_file import LONGEST_FILE_BYTES, decode_clip
from chatterbox.conditioning.clip import refuse_unfit
from chatterbox.conditioning.conditionals import Conditioner
from chatterbox.conditioning.loading import load_conditioner
from chatterbox.conditioning.voice_cache import VoiceCache
from chatterbox.config import ModelConfig
from chatterbox.voice import VoiceError, save_voice

CONDITIONING_VERSION = 1
"""Part of a cached voice's name: raise it whenever the same clip would give another voice."""


@dataclass(frozen=True, slots=True)
class Cloned:
    """What became of one clip."""

    seconds: float
    """Of the clip, without the silence at its ends."""
    is_cached: bool
    warnings: tuple[str, ...]


class Cloner:
    """Makes voices for one checkpoint."""

    def __init__(
        self,
        folder: Path,
        config: ModelConfig,
        cache: VoiceCache | None = None,
        *,
        on_step: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self._folder = folder
        self._config = config
        self._cache = cache
        self._on_step = on_step
        self._conditioner: Conditioner | None = None

    def load(self) -> Conditioner:
        """The models, from now on in memory. Raises `CheckpointError`."""
        if self._conditioner is None:
            self._on_step(f"loading the models of {self._config.name} that listen")
            self._conditioner = load_conditioner(self._folder, self._config)
        return self._conditioner

    def clone(self, clip: Path, out: Path) -> Cloned:
        """Write the voice of a clip to `out`, whole or not at all. Raises `VoiceError`, `OSError`,
        and `CheckpointError` where the models are first needed.
        """
        self._on_step(f"reading {clip}")
        data = _read(clip)
        key = self._key(data)
        # Decoded in any case: what is said of a clip must not depend on who asked before.
        decoded = decode_clip(data)
        # Before models are loaded for nothing.
        refuse_unfit(decoded.wave, self._config.clip)
        if self._cache is not None and (voice := self._cache.get(key, self._config)) is not None:
            is_cached = True
        else:
            conditioner = self.load()
            self._on_step(f"listening to {decoded.seconds:.1f} s")
            voice, is_cached = conditioner.conditionals(decoded.wave), False
            if self._cache is not None:
                self._cache.put(key, voice)
        partial = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            save_voice(partial, voice, made_for=self._config)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
        return Cloned(decoded.seconds, is_cached, decoded.warnings)

    def _key(self, data: bytes) -> str:
        """What the voice follows from: the clip, the models that listen, how they are asked."""
        config = self._config
        asked = (CONDITIONING_VERSION, config.name, config.clip, config.listening)
        sizes = (config.t3.prompt_tokens, config.flow.max_prompt_tokens)
        # A gigabyte is not hashed for a clip of ten seconds; a file that is another one is younger.
        models = [
            (status.st_size, status.st_mtime_ns)
            for file in (config.files.s3gen, config.files.voice_encoder)
            for status in [(self._folder / file).stat()]
        ]
        told = repr((asked, sizes, models)).encode()
        return hashlib.sha256(told + hashlib.sha256(data).digest()).hexdigest()


def _read(clip: Path) -> bytes:
    try:
        with clip.open("rb") as file:
            return file.read(LONGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise VoiceError(f"{clip}: no such file") from None
    except IsADirectoryError:
        raise VoiceError(f"{clip} is a folder, not an audio file") from None
