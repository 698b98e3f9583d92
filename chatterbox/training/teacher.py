"""Texts in, shards of speech out: waveform, mel, phonemes, durations and pitch, spoken by hibari-
tts (voice heart).

Each clip starts about 20 ms before its first sound, ends about 80 ms after its last, and is a whole
number of tokens.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.training.mel import HOP, SAMPLE_RATE, log_mel
from chatterbox.training.progress import Progress
from chatterbox.training.tokenizer import Timing

TOKEN_SAMPLES = 960
DURATION_TENSOR = "/Clip_output_0"
"""Inside the teacher's network: how long each phoneme lasts, in units of 25 ms."""
DURATION_S = 0.025
F0_STEP_S = 0.0125
LEAD_S, TAIL_S = 0.02, 0.08
SILENCE_DB = -45.0
CLIPS_PER_SHARD = 500
FIELDS = ("wave", "mel", "f0", "phonemes", "ends")


@dataclass(frozen=True, slots=True)
class Clip:
    """One spoken text."""

    text: str
    phonemes: str
    ends: NDArray[np.float32]
    """When each phoneme character ends, in seconds from the first sample."""
    wave: NDArray[np.int16]
    mel: NDArray[np.float16]
    f0: NDArray[np.float16]
    """Pitch in Hz at each mel frame; 0 where the voice is silent or whispers."""

    @property
    def timing(self) -> Timing:
        """What the tokens say of the clip."""
        f0 = self.f0.astype(np.float32)
        return Timing(phonemes=self.phonemes, ends=self.ends, f0=f0, wave=self.wave)


def sound_span(samples: NDArray[np.float32]) -> tuple[int, int]:
    """First and one-past-last sample of a clip, its silent ends cut to `LEAD_S` and `TAIL_S`."""
    block = SAMPLE_RATE // 200
    usable = len(samples) // block * block
    level = np.sqrt(np.mean(samples[:usable].reshape(-1, block) ** 2, axis=1) + 1e-12)
    loud = np.flatnonzero(level > level.max() * 10 ** (SILENCE_DB / 20))
    start = int(loud[0]) * block - int(LEAD_S * SAMPLE_RATE)
    stop = (int(loud[-1]) + 1) * block + int(TAIL_S * SAMPLE_RATE)
    return max(0, start), min(len(samples), stop)


class Teacher:
    """Speaks one sentence at a time and tells how it timed it."""

    def __init__(self, *, threads: int = 1) -> None:
        import onnx
        from hibari import Hibari
        from hibari.voices import voice_path

        model = onnx.load(voice_path("heart"))
        durations = onnx.helper.make_tensor_value_info(
            DURATION_TENSOR, onnx.TensorProto.FLOAT, None
        )
        model.graph.output.append(durations)
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            onnx.save(model, file.name)
            self._hibari: Any = Hibari(model=file.name, threads=threads)

    def phonemes(self, text: str) -> str:
        """The text's phonemes, as the voice's front end writes them; unknown symbols left out."""
        return "".join(c for c in self._hibari.g2p(text) if c in self._hibari.vocab)

    def speak(self, text: str, *, seed: int) -> Clip:
        """Say the whole text in one breath."""
        from hibari import dsp

        phonemes = self.phonemes(text)
        ids = np.asarray([self._hibari.ids(phonemes)], np.int64)
        outputs = self._hibari.sess.run(None, {"ids": ids, "speed": np.ones(1, np.float32)})
        *spectrum, f0, units = (out[0] if out.ndim > 1 else out for out in outputs)
        samples = dsp.synth(*spectrum, f0, np.random.default_rng(seed)).astype(np.float32)
        start, stop = sound_span(samples)
        num_tokens = -(-(stop - start) // TOKEN_SAMPLES)
        wave = np.zeros(num_tokens * TOKEN_SAMPLES, np.float32)
        wave[: stop - start] = samples[start:stop]
        ends = np.cumsum(units)[1:-1] * DURATION_S - start / SAMPLE_RATE
        centres = (np.arange(len(wave) // HOP) + 0.5) * HOP / SAMPLE_RATE + start / SAMPLE_RATE
        nearest = np.clip(np.round(centres / F0_STEP_S - 0.5), 0, len(f0) - 1).astype(int)
        pitch = np.where(f0[nearest] > 60.0, f0[nearest], 0.0)
        return Clip(
            text=text,
            phonemes=phonemes,
            ends=np.maximum(ends, 0.0).astype(np.float32),
            wave=(np.clip(wave, -1, 1) * 32767).astype(np.int16),
            mel=log_mel(wave).astype(np.float16),
            f0=pitch.astype(np.float16),
        )


def save_shard(path: Path, clips: list[Clip]) -> None:
    """Write `path` as a folder of flat arrays with offsets; it appears whole or not at all."""
    building = path.with_suffix(".partial")
    building.mkdir(parents=True, exist_ok=True)
    phonemes = [np.array([ord(c) for c in clip.phonemes], np.uint16) for clip in clips]
    columns: dict[str, list[Any]] = {
        "wave": [clip.wave for clip in clips],
        "mel": [clip.mel for clip in clips],
        "f0": [clip.f0 for clip in clips],
        "phonemes": phonemes,
        "ends": [clip.ends for clip in clips],
    }
    for name, parts in columns.items():
        np.save(building / f"{name}.npy", np.concatenate(parts))
        np.save(building / f"{name}_offsets.npy", np.cumsum([0, *(len(part) for part in parts)]))
    (building / "texts.json").write_text(
        json.dumps([clip.text for clip in clips]), encoding="utf-8"
    )
    building.rename(path)


_teacher: Teacher | None = None


def _make_shard(job: tuple[Path, int, list[str]]) -> float:
    """One worker's piece of work; returns the seconds of speech made."""
    global _teacher
    path, first_index, texts = job
    if _teacher is None:
        _teacher = Teacher()
    clips: list[Clip] = []
    for index, text in enumerate(texts, start=first_index):
        if len(_teacher.phonemes(text)) > 1:
            clips.append(_teacher.speak(text, seed=index))
    save_shard(path, clips)
    return sum(len(clip.wave) for clip in clips) / SAMPLE_RATE


def _jobs(texts: list[str], folder: Path, size: int) -> Iterator[tuple[Path, int, list[str]]]:
    for number, first in enumerate(range(0, len(texts), size)):
        path = folder / f"shard-{number:04d}"
        if not path.exists():
            yield path, first, texts[first : first + size]


def make_data(
    texts: list[str],
    folder: Path,
    *,
    workers: int,
    minutes: float,
    clips_per_shard: int = CLIPS_PER_SHARD,
) -> float:
    """Speak the texts into shards until they or the minutes run out; finished shards are kept.
    Hours made now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = list(_jobs(texts, folder, clips_per_shard))
    deadline = time.monotonic() + minutes * 60
    seconds = 0.0
    progress = Progress("data", total=len(jobs))
    with ProcessPoolExecutor(workers) as pool:
        futures = [pool.submit(_make_shard, job) for job in jobs]
        for count, future in enumerate(as_completed(futures), start=1):
            seconds += future.result()
            progress.show(count, {"hours": seconds / 3600})
            if time.monotonic() > deadline:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    return seconds / 3600
