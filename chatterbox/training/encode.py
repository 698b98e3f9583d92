"""The frozen tokenizer and the teacher's mels in, every clip's speech tokens out."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chatterbox.config import MEL_FRAMES_PER_TOKEN
from chatterbox.training.dataset import SpeechData
from chatterbox.training.progress import Progress
from chatterbox.training.tokenizer import Tokenizer, tokens_of

BATCH_FRAMES = 8000


@torch.inference_mode()
def encode_clips(tokenizer: Tokenizer, data: SpeechData) -> list[NDArray[np.int16]]:
    """Tokens of each clip. Only clips of equal length share a batch, so none sees padding."""
    tokens: list[NDArray[np.int16]] = [np.zeros(0, np.int16)] * len(data)
    order = np.argsort(data.mel_frames, kind="stable")
    progress = Progress("encode", total=len(data))
    device = next(tokenizer.parameters()).device
    done = 0
    while done < len(order):
        frames = int(data.mel_frames[order[done]])
        same = order[done : done + max(1, BATCH_FRAMES // frames)]
        same = same[data.mel_frames[same] == frames]
        mels = np.stack([data.field("mel", int(index)).astype(np.float32).T for index in same])
        digits = tokenizer(torch.from_numpy(mels).to(device))
        for index, row in zip(same, tokens_of(digits).cpu().numpy().astype(np.int16), strict=True):
            tokens[int(index)] = row
        done += len(same)
        progress.show(done, {})
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
