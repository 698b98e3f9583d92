"""Shards from the teacher in, clips and random crops out. Memory-mapped: only what is touched is
read.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.training.teacher import FIELDS

VALIDATION_SHARDS = 1
"""The first shards are for validation: never trained on."""


class Shard:
    """One folder of flat arrays; `field(name, clip)` is a view."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._flat: dict[str, NDArray[Any]] = {
            name: np.load(path / f"{name}.npy", mmap_mode="r") for name in FIELDS
        }
        self._offsets: dict[str, NDArray[np.int64]] = {
            name: np.load(path / f"{name}_offsets.npy") for name in FIELDS
        }

    def __len__(self) -> int:
        return len(self._offsets["mel"]) - 1

    def field(self, name: str, clip: int) -> NDArray[Any]:
        offsets = self._offsets[name]
        return self._flat[name][offsets[clip] : offsets[clip + 1]]

    def lengths(self, name: str) -> NDArray[np.int64]:
        return np.diff(self._offsets[name])

    @cached_property
    def texts(self) -> list[str]:
        texts: list[str] = json.loads((self._path / "texts.json").read_text(encoding="utf-8"))
        return texts


@dataclass(frozen=True, slots=True)
class ClipRef:
    """Where a clip lies."""

    shard: int
    clip: int


class SpeechData:
    """Every shard of a folder as one list of clips."""

    def __init__(self, folder: Path, *, validation: bool = False) -> None:
        paths = sorted(path for path in folder.glob("shard-*") if path.suffix == "")
        chosen = paths[:VALIDATION_SHARDS] if validation else paths[VALIDATION_SHARDS:]
        self.names = [path.name for path in chosen]
        self.shards = [Shard(path) for path in chosen]
        self.refs = [
            ClipRef(s, c) for s, shard in enumerate(self.shards) for c in range(len(shard))
        ]
        self.mel_frames = np.concatenate([shard.lengths("mel") for shard in self.shards])
        self.num_phonemes = np.concatenate([shard.lengths("phonemes") for shard in self.shards])

    def __len__(self) -> int:
        return len(self.refs)

    def field(self, name: str, index: int) -> NDArray[Any]:
        ref = self.refs[index]
        return self.shards[ref.shard].field(name, ref.clip)

    def text(self, index: int) -> str:
        ref = self.refs[index]
        return self.shards[ref.shard].texts[ref.clip]

    def phonemes(self, index: int) -> str:
        return "".join(chr(c) for c in self.field("phonemes", index))

    def random_index(self, rng: np.random.Generator, *, at_least_frames: int) -> int:
        """A clip of at least that many mel frames, longer ones in proportion to what they hold."""
        while True:
            index = int(rng.integers(len(self)))
            if (
                self.mel_frames[index] >= at_least_frames
                and rng.random() < self.mel_frames[index] / 400
            ):
                return index
