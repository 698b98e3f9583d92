"""How far off word times are: by the speech tokens' names, by T3's attention, by an estimate.

Theory. The teacher says when each of its phonemes ends, to 25 ms, and its speech can be written in
speech tokens; so what the tokens' names and T3's attention tell of the same tokens can be held
against the truth (part A). That says nothing of whether our voice's sound keeps to its tokens. So
what it says is held against a recogniser's ear (part B), whose own error is measured on the teacher
(part A), and against the teacher's reading of the same text, laid over it by its sound alone (part
C, dynamic time warping over frames of 20 ms). A method is judged by the median and the 95th
percentile of how far starts and ends of words are off.

    python tests/bench/word_times.py [--every N]
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import (
    SAMPLE_RATE,
    PcmChunk,
    Segment,
    SegmentId,
    SlotIndex,
    SpokenWord,
    WordsTimed,
)
from chatterbox.engine import ChatterboxEngine
from chatterbox.loading import load_engine
from chatterbox.t3.model import T3
from chatterbox.text.front_end import TokenSpan
from chatterbox.text.normalise import normalise
from chatterbox.text.places import words_of
from chatterbox.timing import HALF_SAMPLES, Alignment
from chatterbox.training.corpus import held_out
from chatterbox.training.evaluation.alignment import aligned
from chatterbox.training.evaluation.attention import attention_to_text
from chatterbox.training.evaluation.reading import Reading
from chatterbox.training.evaluation.timing import text_timing
from chatterbox.training.evaluation.word_times import Errors, Timed, bare, ends_by_attention, heard
from chatterbox.training.recogniser import heard_words
from chatterbox.training.teacher import Clip, Teacher
from chatterbox.training.tokenizer import Codebook
from daemon.speaking.word_estimate import Paces, WordEstimate

SLOT = SlotIndex(0)
Ends = NDArray[np.float64]


class Judge:
    def __init__(self, engine: ChatterboxEngine) -> None:
        model = engine.stages.t3.model
        assert isinstance(model, T3)
        assert engine.token_phonemes is not None, "the tokens of this voice have no names"
        self.engine, self.model, self.halves = engine, model, engine.token_phonemes
        self.condition = engine._voices[engine.info.default_voice].condition
        self.codebook = Codebook.load()
        self.errors: dict[str, Errors] = {}
        self.paces = Paces()
        self.first_pace = self.paces.of("", None)

    def note(self, name: str, told: Sequence[Timed], truth: Sequence[Timed]) -> None:
        self.errors.setdefault(name, Errors()).add(told, truth)

    def by_tokens(self, text_tokens: Sequence[int], speech_tokens: Sequence[int]) -> Ends:
        alignment = Alignment(text_tokens, self.halves)
        for token in speech_tokens:
            alignment.push(token)
        ends = alignment.ends(alignment.num_halves, is_whole=True)
        return ends.astype(np.float64) * HALF_SAMPLES / SAMPLE_RATE

    def by_heads(self, text_tokens: Sequence[int], speech_tokens: Sequence[int]) -> dict[str, Ends]:
        weights = attention_to_text(self.model, self.condition, text_tokens, speech_tokens)
        return {
            f"{layer}.{head}": ends_by_attention(weights[layer, head])
            for layer in range(weights.shape[0])
            for head in range(weights.shape[1])
        }

    # --- part A: the teacher ----------------------------------------------------------------------

    def judge_teacher(self, clip: Clip) -> list[Timed]:
        """The truth of its words; empty where there is none to compare with."""
        words = [bare(word) for word in words_of(normalise(clip.text).text)]
        # The last phoneme lasts into the silence that was cut off.
        ends = np.minimum(clip.ends, len(clip.wave) / SAMPLE_RATE)
        truth = _timed(words, clip.phonemes, ends)
        if truth is None:
            return []
        samples = clip.wave.astype(np.float32) / np.float32(32768)
        self.note("A recogniser", heard(heard_words(samples)), truth)
        self.note("A estimate", _estimated(clip.text, len(samples)), truth)
        symbols = self.engine.config.text.symbols
        text_tokens = [symbols.index(char) for char in clip.phonemes]
        speech_tokens = self.codebook.encode(clip.timing).tolist()
        found = {"A tokens": self.by_tokens(text_tokens, speech_tokens)}
        for head, ends in self.by_heads(text_tokens, speech_tokens).items():
            found[f"A attention {head}"] = ends
        for name, ends in found.items():
            told = _timed(words, clip.phonemes, ends)
            assert told is not None
            self.note(name, told, truth)
        return truth

    # --- parts B and C: our voice -----------------------------------------------------------------

    def judge_engine(
        self, clip: Clip, taught: Sequence[Timed], seed: int, heads: Sequence[str]
    ) -> None:
        engine, text = self.engine, clip.text
        segment = Segment(id=SegmentId(seed), text=text, voice=engine.info.default_voice, seed=seed)
        events = engine.start(SLOT, segment)
        progress = engine._busy(SLOT)
        while not progress.finished:
            events += engine.step([SLOT])
        chunks = [event.samples for event in events if isinstance(event, PcmChunk)]
        samples = np.concatenate(chunks)
        ear = heard(heard_words(samples))
        laid = _laid_over(samples, clip, taught)
        self.note("C recogniser", ear, laid)
        told = [word for event in events if isinstance(event, WordsTimed) for word in event.words]
        found = {"tokens": _placed(text, told), "estimate": _estimated(text, len(samples))}
        lengths = [len(chunk) for chunk in chunks]
        for name, pace in (("first", self.first_pace), ("later", self.paces.of("", None))):
            found[f"estimate while it comes, {name}"] = _estimated_live(text, lengths, pace)
        self.paces.note("", None, text, len(samples))
        part = progress.part
        tokens = engine.stages.t3.state.tokens[SLOT, : part.tokens].tolist()
        shift = part.trimmer.num_dropped / SAMPLE_RATE
        by_heads = self.by_heads(part.text_tokens, tokens)
        for head in heads:
            spoken = _spoken(progress.words, by_heads[head] - shift)
            found[f"attention {head}"] = _placed(text, spoken)
        for name, words in found.items():
            self.note(f"B {name}", words, ear)
            self.note(f"C {name}", words, laid)
        engine.release(SLOT)


def _laid_over(samples: NDArray[np.float32], clip: Clip, taught: Sequence[Timed]) -> list[Timed]:
    """When the teacher's words are heard in another reading of the same text."""
    teacher = Reading(clip.wave.astype(np.float32) / np.float32(32768))
    when = aligned(Reading(samples), teacher)
    bounds = when(np.array([[word.start_s, word.end_s] for word in taught]).reshape(-1, 2))
    return [
        Timed(word.text, float(start), float(end))
        for word, (start, end) in zip(taught, bounds, strict=True)
    ]


def _timed(words: Sequence[str], phonemes: str, ends: NDArray[np.floating]) -> list[Timed] | None:
    """None where the teacher's front end reads other words than ours."""
    spans = text_timing(phonemes, [float(end) for end in ends]).words
    if len(spans) != len(words):
        return None
    return [Timed(word, span.start_s, span.end_s) for word, span in zip(words, spans, strict=True)]


def _placed(text: str, words: Sequence[SpokenWord]) -> list[Timed]:
    """Of the words as written those that are said as one word."""
    found = []
    for word in words:
        said = words_of(normalise(text[word.start : word.end]).text)
        if len(said) == 1:
            start, end = word.start_sample / SAMPLE_RATE, word.end_sample / SAMPLE_RATE
            found.append(Timed(bare(said[0]), start, end))
    return found


def _spoken(words: Sequence[TokenSpan], ends: Ends) -> list[SpokenWord]:
    times = [0, *np.maximum(ends * SAMPLE_RATE, 0).astype(int).tolist()]
    return [
        SpokenWord(
            start=word.runs[0][0],
            end=word.runs[0][1],
            start_sample=times[word.first],
            end_sample=times[word.last],
        )
        for word in words
        if len(word.runs) == 1
    ]


def _estimated(text: str, num_samples: int) -> list[Timed]:
    estimate = WordEstimate(text)
    return _placed(
        text,
        estimate.words_until(num_samples, num_left=0, total=num_samples, pace=0.0),
    )


def _estimated_live(text: str, lengths: Sequence[int], pace: float) -> list[Timed]:
    """As the daemon has to, for a segment whose audio comes piece by piece."""
    estimate, found = WordEstimate(text), []
    bounds = np.cumsum([0, *lengths]).tolist()
    for left, until in pairwise(bounds):
        total = until if until == bounds[-1] else None
        found += estimate.words_until(until, num_left=left, total=total, pace=pace)
    return _placed(text, found)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--every", type=int, default=1, help="judge only every n-th text")
    arguments = made.parse_args()
    texts = list(enumerate(held_out()))[:: arguments.every]
    judge, teacher = Judge(load_engine(None, num_slots=1)), Teacher()
    taught = []
    for seed, item in texts:
        clip = teacher.speak(item.text, seed=seed)
        taught.append((clip, judge.judge_teacher(clip), seed))
    by_head = {
        name.removeprefix("A attention "): errors.figures()
        for name, errors in judge.errors.items()
        if name.startswith("A attention")
    }
    best = sorted(
        by_head, key=lambda head: by_head[head]["start_p50_ms"] + by_head[head]["end_p50_ms"]
    )
    for head in best[2:]:
        del judge.errors[f"A attention {head}"]
    for clip, truth, seed in taught:
        judge.judge_engine(clip, truth, seed, best[:2])
    figures = {name: errors.figures() for name, errors in sorted(judge.errors.items())}
    for name, found in figures.items():
        columns = "  ".join(f"{key} {value:g}" for key, value in found.items())
        sys.stdout.write(f"{name:28} {columns}\n")
    sys.stdout.write(json.dumps({"texts": len(texts), **figures}) + "\n")


if __name__ == "__main__":
    main()
