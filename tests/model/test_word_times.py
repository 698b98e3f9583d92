"""When words are heard, from the engine: all of them, in order, in time, and true."""

from itertools import pairwise

import numpy as np
import pytest
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
from chatterbox.timing import HALF_SAMPLES, Alignment
from chatterbox.training.evaluation.attention import attention_to_text
from chatterbox.training.evaluation.word_times import ends_by_attention
from tests.model.random_engine import CONFIG, random_engine, segment

SLOT = SlotIndex(0)


def spoken(
    engine: ChatterboxEngine, wanted: Segment, *, beside: Segment | None = None
) -> tuple[list[SpokenWord], NDArray[np.float32]]:
    """Words and audio of one segment. A word that comes after the audio it ends in is an error."""
    slots = [SLOT]
    engine.start(SLOT, wanted)
    if beside is not None:
        slots.append(SlotIndex(1))
        engine.start(slots[1], beside)
    words: list[SpokenWord] = []
    audio: list[NDArray[np.float32]] = []
    is_over = False
    while not is_over:
        for event in engine.step([slot for slot in slots if not engine._busy(slot).finished]):
            if event.segment_id != wanted.id:
                continue
            if isinstance(event, WordsTimed):
                words += event.words
                assert event.words[0].end_sample >= sum(len(chunk) for chunk in audio)
            elif isinstance(event, PcmChunk):
                audio.append(event.samples)
                is_over = event.is_last
    for slot in slots:
        engine.release(slot)
    return words, np.concatenate(audio)


def check(text: str, words: list[SpokenWord], num_samples: int) -> None:
    assert [text[word.start : word.end] for word in words] == text.split()
    assert all(0 <= word.start_sample <= word.end_sample <= num_samples for word in words)
    assert all(left.end_sample <= right.start_sample for left, right in pairwise(words))


@pytest.mark.parametrize("text", ["one", "one window after the other", "ab " * 40])
def test_words_are_told_once_in_order_and_in_time(text: str) -> None:
    """Even of a model that babbles, and of a text that takes several generations."""
    text = text.strip()
    words, samples = spoken(random_engine(named_tokens=True), segment(1, text))
    check(text, words, len(samples))
    if len(text) > CONFIG.t3.max_text_tokens:
        last = words[-1]
        assert last.start_sample > len(samples) // 2, "times count from the segment's first sample"


def test_neighbours_do_not_move_words() -> None:
    """Times are of the segment, not of the batch."""
    text = "one window after the other"
    alone, _ = spoken(random_engine(named_tokens=True), segment(1, text))
    other = segment(2, "somebody else speaks at length here", seed=9)
    assert spoken(random_engine(named_tokens=True), segment(1, text), beside=other)[0] == alone


def test_tokens_without_names_tell_no_times() -> None:
    """The daemon asks `info` whether it has to estimate: the two must agree."""
    for named in (False, True):
        engine = random_engine(named_tokens=named)
        assert engine.info.word_times == ("exact" if named else "estimated")
        words, _ = spoken(engine, segment(1, "one two"))
        assert bool(words) == named


@pytest.fixture(scope="module")
def bundled() -> ChatterboxEngine:
    engine = load_engine(None, num_slots=1)
    engine.warm_up()
    return engine


def say(engine: ChatterboxEngine, text: str) -> tuple[list[SpokenWord], NDArray[np.float32]]:
    wanted = Segment(id=SegmentId(1), text=text, voice=engine.info.default_voice, seed=1)
    return spoken(engine, wanted)


def loudness_db(samples: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(np.square(samples)) + 1e-9))


def test_the_bundled_voice_pauses_between_its_words_and_nowhere_else(
    bundled: ChatterboxEngine,
) -> None:
    """Half a token off would be heard: sound in the pause, or a pause in the word."""
    text = "If you go, please call me; when you stay, please do not."
    words, samples = say(bundled, text)
    check(text, words, len(samples))
    for left, right in pairwise(words):
        if text[left.end - 1] in ",;":
            pause = samples[left.end_sample : right.start_sample]
            assert len(pause) > 0.05 * SAMPLE_RATE, text[left.start : left.end]
            middle = pause[len(pause) // 4 : -len(pause) // 4]
            word = samples[right.start_sample : right.end_sample]
            assert loudness_db(middle) < loudness_db(word) - 15


def test_attention_that_was_taught_to_follow_agrees(bundled: ChatterboxEngine) -> None:
    """Guards the comparison: weights of other positions or rows would lose without a fair trial."""
    model = bundled.stages.t3.model
    assert isinstance(model, T3)
    assert bundled.token_phonemes is not None
    bundled.start(
        SLOT, Segment(id=SegmentId(1), text="One small word follows another.", voice="heart")
    )
    progress = bundled._busy(SLOT)
    while not progress.finished:
        bundled.step([SLOT])
    text = progress.part.text_tokens
    tokens = bundled.stages.t3.state.tokens[SLOT, : progress.part.tokens].tolist()
    bundled.release(SLOT)
    weights = attention_to_text(model, bundled._voices["heart"].condition, text, tokens)
    alignment = Alignment(text, bundled.token_phonemes)
    for token in tokens:
        alignment.push(token)
    by_name = alignment.ends(alignment.num_halves, is_whole=True) * HALF_SAMPLES / SAMPLE_RATE
    by_head = ends_by_attention(weights[1, 0])
    assert np.median(np.abs(by_head - by_name)) < 0.06
    assert np.median(np.abs(ends_by_attention(weights[0, 1]) - by_name)) > 0.06, (
        "not every head does"
    )


def test_what_is_written_in_other_ways_is_timed_as_it_is_written(
    bundled: ChatterboxEngine,
) -> None:
    """ "$1,250" takes five words, and its own time; what is not said takes none."""
    text = "He paid $1,250 😀 – on 5 May, e.g. for it."
    words, samples = say(bundled, text)
    told = {text[word.start : word.end]: word for word in words}
    assert list(told) == ["He", "paid", "$1,250", "on", "5", "May,", "e.g.", "for", "it."]
    length = {run: word.end_sample - word.start_sample for run, word in told.items()}
    assert length["$1,250"] > 3 * length["paid"]
    assert all(length.values())
    assert words[-1].end_sample <= len(samples)
