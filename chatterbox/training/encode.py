"""The teacher's timing of the corpus in, every clip's speech tokens out."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chatterbox.config import MEL_FRAMES_PER_TOKEN
from chatterbox.training.dataset import SpeechData
from chatterbox.training.progress import Progress
from chatterbox.training.tokenizer import Codebook, Timing


def encode_clips(data: SpeechData) -> list[NDArray[np.int16]]:
    """Tokens of each clip."""
    codebook = Codebook.load()
    progress = Progress("tokens", total=len(data))
    tokens: list[NDArray[np.int16]] = []
    for index in range(len(data)):
        timing = Timing(
            phonemes=data.phonemes(index),
            ends=data.field("ends", index),
            f0=data.field("f0", index).astype(np.float32),
            wave=data.field("wave", index),
        )
        tokens.append(codebook.encode(timing))
        progress.show(index + 1, {})
    return tokens


def save_tokens(path: Path, tokens: list[NDArray[np.int16]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_suffix(".partial.npy")
    np.save(building, np.concatenate(tokens))
    building.rename(path)


def load_tokens(path: Path, data: SpeechData) -> list[NDArray[np.int16]]:
    """What `save_tokens` wrote, split by the clips' lengths."""
    flat = np.load(path)
    ends = np.cumsum(data.mel_frames // MEL_FRAMES_PER_TOKEN)
    assert len(flat) == ends[-1], f"{path} was made from other data: encode again"
    return list(np.split(flat, ends[:-1]))
