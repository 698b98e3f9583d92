"""The judge of the bundled voice on speech and words made up for it: no model, no recogniser."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE
from chatterbox.training.evaluation.alignment import aligned, warp
from chatterbox.training.evaluation.bars import bars
from chatterbox.training.evaluation.prosody import Prosody, compare
from chatterbox.training.evaluation.reading import Reading
from chatterbox.training.evaluation.report import is_runaway, is_truncated
from chatterbox.training.evaluation.seams import Seams, at_least, judged
from chatterbox.training.evaluation.tables import json_line, table
from chatterbox.training.evaluation.timing import Gap, TextTiming, WordSpan, text_timing
from chatterbox.training.recogniser import WordErrors, compared, words_of

Samples = NDArray[np.float32]


def noise(seconds: float, *, seed: int, level: float = 0.1) -> Samples:
    rng = np.random.default_rng(seed)
    made = level * rng.normal(size=round(seconds * SAMPLE_RATE))
    return made.astype(np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def vowel(seconds: float, hz: float) -> Samples:
    """A buzz whose colour follows its pitch, so that different vowels can be told apart."""
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    made = np.zeros(len(time_s))
    for k in range(1, 20):
        colour = np.exp(-(((k * hz - 4 * hz) / 900) ** 2))
        made += 0.1 * colour * np.sin(2 * np.pi * k * hz * time_s)
    return made.astype(np.float32)


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "heard"),
    [
        ("It costs $37.50.", "it costs thirty seven dollars and fifty cents"),
        ("on October 9th, 1987", "on October 9, 1987"),
        ("3.5 kilograms", "3.5 kg"),
        ("almost 15,000", "almost 15000"),
        ("20% less", "twenty percent less"),
        ("I don't know", "I do not know"),
    ],
)
def test_spelling_is_no_word_error(written: str, heard: str) -> None:
    """A voice must not be blamed for how the recogniser spells what it said."""
    assert words_of(written) == words_of(heard)


def test_and_counts_where_it_is_a_word() -> None:
    """Dropping each "and" with those of numbers would hide a word that was not spoken."""
    assert words_of("bread and butter") == ["bread", "and", "butter"]


def test_errors_at_the_end_are_told_from_others() -> None:
    """A cut text shows in its last words alone; a mumbled word in the middle is no cut."""
    said = ["the", "old", "man", "went", "to", "the", "sea"]
    assert compared(said, said[:4]) == WordErrors(3, 3, 0)
    assert compared(said, [said[0], *said[2:]]) == WordErrors(1, 0, 0)
    assert compared(said, [*said, "sea", "sea"]) == WordErrors(2, 0, 2)
    assert compared(said, []) == WordErrors(7, 7, 0)


def test_a_compound_in_two_words_is_no_error() -> None:
    """Recognisers split and join compounds as they like."""
    assert compared(["the", "farmhouse", "is"], ["the", "farm", "house", "is"]).errors == 0
    assert compared(["ice", "cream"], ["icecream"]).errors == 0
    assert compared(["ice", "cream"], ["nice", "cream"]).errors == 1


def test_cut_and_runaway_texts_are_found() -> None:
    """Length alone misses a sentence that lost its last tenth; words alone blame a mumble."""
    fine = WordErrors(0, 0, 0)
    assert not is_truncated(0.95, fine)
    assert is_truncated(0.5, fine)
    assert is_truncated(0.85, WordErrors(2, 2, 0))
    assert not is_truncated(1.0, WordErrors(2, 2, 0)), "two words were mumbled, not cut"
    assert not is_runaway(1.05, fine, ())
    assert is_runaway(1.7, fine, ())
    assert is_runaway(1.0, fine, ("runaway_cut",))
    assert is_runaway(1.2, WordErrors(3, 0, 3), ())


# --- timing, alignment ----------------------------------------------------------------------------


def test_words_and_gaps_come_from_the_phonemes() -> None:
    """Guards the places where pauses are looked for: one character off, and each is a word late."""
    phonemes = "h'æt, ðə k'æt. j'ɛs.".replace("'", "\N{MODIFIER LETTER VERTICAL LINE}")
    ends = [0.1 * (index + 1) for index in range(len(phonemes))]
    timing = text_timing(phonemes, ends)
    assert [word.is_stressed for word in timing.words] == [True, False, True, True]
    assert [gap.kind for gap in timing.gaps] == ["comma", "plain", "stop"]
    comma = timing.gaps[0]
    assert (comma.start_s, comma.end_s) == pytest.approx((0.4, 0.6))
    assert timing.words[-1].end_s == pytest.approx(ends[-2])


def test_warp_follows_the_cheapest_path() -> None:
    """Guards the anti-diagonals: a cell computed too early would send the path astray."""
    theirs = np.array([[0.0], [1.0], [2.0], [3.0]])
    ours = np.array([[0.0], [0.0], [0.0], [1.0], [2.0], [2.0], [3.0]])
    path = warp(ours, theirs)
    assert path[0] == (0, 0)
    assert path[-1] == (6, 3)
    assert {(3, 1), (4, 2), (5, 2), (6, 3)} <= set(path)
    assert all(abs(ours[i, 0] - theirs[j, 0]) == 0 for i, j in path)


def test_alignment_finds_the_same_vowel() -> None:
    """Guards everything that is measured word by word: the second vowel starts later in one."""
    theirs = Reading(np.concatenate([vowel(0.4, 120), vowel(0.4, 240)]))
    ours = Reading(np.concatenate([vowel(0.8, 120), vowel(0.4, 240)]))
    mapped = aligned(ours, theirs)(np.array([0.0, 0.4, 0.8]))
    assert mapped == pytest.approx([0.0, 0.8, 1.2], abs=0.06)


def test_silences_are_measured() -> None:
    """Guards the pauses: the longest run counts, not the sum, and only inside the span."""
    reading = Reading(
        np.concatenate([noise(0.3, seed=1), silence(0.2), noise(0.3, seed=2), silence(0.1)])
    )
    assert reading.longest_silence_s(0.2, 0.9) == pytest.approx(0.2, abs=0.011)
    assert reading.longest_silence_s(0.4, 0.9) == pytest.approx(0.1, abs=0.011)
    assert reading.longest_silence_s(0.0, 0.25) == 0.0


# --- prosody --------------------------------------------------------------------------------------


class Sung(Reading):
    """A reading whose F0 is given instead of tracked."""

    def sing(self, *notes: tuple[float, float]) -> "Sung":
        """(seconds, semitones) one after the other."""
        track = np.concatenate([np.full(round(100 * long_s), height) for long_s, height in notes])
        self.__dict__["semitones"] = track[: len(self.level_db)]
        return self


def two_words(pause_s: float, *, rise_st: float, louder: float = 1.0) -> Sung:
    """Words of 0.4 s at different pitches, the second `louder` and ending `rise_st` higher."""
    samples = np.concatenate([vowel(0.4, 120), silence(pause_s), louder * vowel(0.4, 240)])
    notes = [(0.4, 5.0), (pause_s, np.nan), (0.25, 10.0), (0.16, 10.0 + rise_st)]
    return Sung(samples.astype(np.float32)).sing(*notes)


def timing_of_two_words(pause_s: float) -> TextTiming:
    words = (WordSpan(0.0, 0.4, False), WordSpan(0.4 + pause_s, 0.8 + pause_s, True))
    return TextTiming(words, (Gap(0.4, 0.4 + pause_s, "comma"),))


def test_the_teacher_is_not_off_from_itself() -> None:
    """Guards every figure at once: a measure that finds fault with the teacher is wrong."""
    teacher = two_words(0.2, rise_st=3.0)
    found = compare(teacher, teacher, timing_of_two_words(0.2), "Yes, no?")
    prosody = Prosody([found]).summary()
    assert prosody["pauses_at_commas"]["off_by_ms"] == 0
    assert prosody["f0"]["rmse_st"] == 0
    assert prosody["f0"]["correlation"] == pytest.approx(1.0)
    assert prosody["questions"]["agreement"] == 1
    assert prosody["durations"]["total_ratio"] == 1
    assert prosody["durations"]["word_ratio"] == pytest.approx(1.0, abs=0.05)


def test_other_pauses_heights_and_loudness_are_told() -> None:
    """Guards the signs: a pause too long, a question that falls, a stress too weak."""
    teacher = two_words(0.2, rise_st=3.0, louder=1.0)
    pupil = two_words(0.5, rise_st=-3.0, louder=0.5)
    found = compare(pupil, teacher, timing_of_two_words(0.2), "Yes, no?")
    prosody = Prosody([found]).summary()
    commas = prosody["pauses_at_commas"]
    assert commas["teacher_ms"] == pytest.approx(200, abs=21)
    assert commas["ms"] == pytest.approx(500, abs=21)
    assert prosody["questions"]["teacher_rises"] == 1
    assert prosody["questions"]["rises"] == 0
    assert prosody["questions"]["movement_st"] == pytest.approx(-3.0, abs=0.1)
    emphasis = prosody["emphasis"]
    weaker_db = emphasis["teacher_stressed_db"] - emphasis["stressed_db"]
    assert weaker_db == pytest.approx(6.0, abs=0.7)
    assert prosody["durations"]["total_ratio"] == pytest.approx(1.3)


def test_a_pause_that_is_missing_is_not_averaged_in() -> None:
    """Presence and length are two figures: a mean over absent pauses would mix them."""
    teacher, pupil = two_words(0.2, rise_st=0.0), two_words(0.0, rise_st=0.0)
    found = compare(pupil, teacher, timing_of_two_words(0.2), "Yes, no.")
    commas = Prosody([found]).summary()["pauses_at_commas"]
    assert commas["share"] == 0
    assert math.isnan(commas["ms"])
    assert commas["off_by_ms"] == pytest.approx(200, abs=21)


def test_praat_finds_the_height_of_a_vowel() -> None:
    """Guards the units and the time grid of the tracker."""
    pytest.importorskip("parselmouth", reason="comes with the training extra")
    reading = Reading(np.concatenate([silence(0.2), vowel(0.5, 200)]))
    heights = reading.semitones
    assert len(heights) == len(reading.level_db)
    assert np.isnan(heights[:17]).all()
    assert np.nanmedian(heights) == pytest.approx(12.0, abs=0.1)


# --- seams ----------------------------------------------------------------------------------------

JOINS = tuple(range(12_000, 80_000, 7_000))


def seams_of(
    samples: Samples, whole: Samples, other: Samples | None = None
) -> dict[str, dict[str, float]]:
    seams = Seams()
    seams.add(
        samples,
        whole=whole,
        other=whole if other is None else other,
        joins=JOINS,
        every_join=JOINS,
    )
    seams.add_teacher(whole, JOINS)
    return seams.summary()


def test_even_speech_has_no_loud_joins() -> None:
    """Guards against a judge that finds seams in sound that has none."""
    steady = noise(4, seed=3)
    figures = seams_of(steady, steady)
    for level in ("click", "flux"):
        assert figures[level]["joins"] == len(JOINS)
        assert figures[level]["standing_out"] == 0
        assert figures[level]["chance"] > 0.001


def test_clicks_stand_out() -> None:
    """A step in the waveform at each join must be found: it is what a listener would hear."""
    hum = 0.1 * np.sin(2 * np.pi * 200 * np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE)
    smooth: Samples = (hum + noise(4, seed=5, level=1e-4)).astype(np.float32)
    clicked = smooth.copy()
    for join in JOINS:
        clicked[join : join + 2_000] += 0.02
    figures = seams_of(clicked, smooth)
    assert figures["click"]["standing_out"] == len(JOINS)
    assert figures["click"]["standing_out_by_noise"] == 0
    assert figures["click"]["chance"] < 0.001


def test_what_another_seed_makes_loud_is_counted_apart() -> None:
    """Guards the control: it must come from the second rendering without joins, not from ours."""
    hum = 0.1 * np.sin(2 * np.pi * 200 * np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE)
    smooth: Samples = (hum + noise(4, seed=5, level=1e-4)).astype(np.float32)
    other = smooth.copy()
    for join in JOINS[:3]:
        other[join : join + 2_000] += 0.02
    figures = seams_of(smooth, smooth, other)
    assert figures["click"]["standing_out"] == 0
    assert figures["click"]["standing_out_by_noise"] == 3


def test_a_jump_of_colour_is_found() -> None:
    """A window that sounds duller than the last one makes no click, but a flux."""
    whole = noise(4, seed=3)
    dull = np.convolve(whole, np.ones(12) / 12, mode="same").astype(np.float32)
    changing = whole.copy()
    for start, end in zip(JOINS[::2], JOINS[1::2], strict=False):
        changing[start:end] = dull[start:end]
    assert seams_of(changing, whole)["flux"]["standing_out"] >= len(JOINS) - 2


def test_silent_places_are_not_judged() -> None:
    """Nobody hears a join in a pause, and its levels are those of rounding."""
    assert judged(silence(1), 12_000, ()) is None


def test_chance_is_the_binomial_tail() -> None:
    """Guards the bar: a tail that leaves out its first term passes what it should not."""
    assert at_least(0, 10, 0.1) == pytest.approx(1.0)
    assert at_least(1, 10, 0.1) == pytest.approx(1 - 0.9**10)
    assert at_least(10, 10, 0.5) == pytest.approx(0.5**10)


# --- bars, table ----------------------------------------------------------------------------------


def system(**changes: Any) -> dict[str, Any]:
    row = {
        **{"wer_percent": 3.0, "dnsmos": 3.0, "real_time_factor": 0.1, "truncated": 0},
        **{"processor_s_per_audio_s": 0.1, "runaway": 0, "texts": 100, "words": 1000},
    }
    level = {
        **{"joins": 9, "over_surroundings_db": 0.0, "loud_share": 0.05, "standing_out": 0},
        **{"loud_share_elsewhere": 0.05, "loud_share_whole": 0.05, "chance": 0.4},
        **{"loud_share_teacher": 0.05, "worst_over_whole_db": 0.1, "standing_out_by_noise": 0},
    }
    made = {
        **row,
        "strata": {"plain": row},
        "seams": {"mel": {"click": level}},
        "streamed_against_whole": {"distance_db": 0.3, "noise_distance_db": 8.0},
    }
    return {**made, **changes}


def figures(**changes: Any) -> dict[str, Any]:
    first_audio = {
        **{"first_audio_ms_p50": 120.0, "first_audio_ms_p95": 200.0},
        **{"first_audio_at_once_ms_p50": 80.0, "first_audio_at_once_ms_p95": 90.0},
    }
    whole = {"teacher": system(wer_percent=1.0, dnsmos=3.2), "engine": system()}
    return {**whole, "first_audio": first_audio, "checkpoint_mb": 19.0, **changes}


def test_a_good_voice_passes_every_bar() -> None:
    """Guards against a bar that nothing can pass."""
    assert all(bar.is_passed for bar in bars(figures()))


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": system(wer_percent=6.1)},
        {"engine": system(dnsmos=2.89)},
        {"engine": system(truncated=1)},
        {"engine": system(runaway=1)},
        {"engine": system(real_time_factor=0.21)},
        {"first_audio": {"first_audio_at_once_ms_p50": 151.0}},
        {"checkpoint_mb": 30.5},
    ],
)
def test_each_bar_can_be_missed(changes: dict[str, Any]) -> None:
    """Guards against a bar that lets everything pass."""
    assert [bar.is_passed for bar in bars(figures(**changes))].count(False) == 1


@pytest.mark.parametrize("change", [{"standing_out": 1}, {"chance": 0.0005}])
def test_a_loud_join_misses_its_bar(change: dict[str, float]) -> None:
    """One join that stands out is one too many, and so are many that are a little loud."""
    level = {**system()["seams"]["mel"]["click"], **change}
    engine = system(seams={"mel": {"click": level}})
    assert [bar.is_passed for bar in bars(figures(engine=engine))].count(False) == 1


def test_what_was_not_measured_is_not_passed() -> None:
    """Guards the gate: a run without a daemon must not pass the bar of first audio."""
    found = bars({"teacher": system(), "engine": system()})
    assert {bar.name for bar in found if bar.is_passed is None} == {
        "first audio p50, ms",
        "checkpoint, MB",
    }


def test_the_json_line_is_one_line_of_json() -> None:
    """NaN is not JSON; a program that reads the line must not fail at a text without F0."""
    whole = figures()
    whole["engine"]["prosody"] = {"f0": {"correlation": math.nan}}
    line = json_line(whole, bars(whole))
    assert "\n" not in line
    read = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert read["engine"]["prosody"]["f0"]["correlation"] is None
    assert read["bars"]["DNSMOS"] is True


def test_the_table_shows_verdicts() -> None:
    """Guards the last thing that a reader sees: a missed bar must look like one."""
    whole = {name: row for name, row in figures().items() if name != "first_audio"}
    found = [replace(bar, is_passed=bar.name != "DNSMOS") for bar in bars(whole)]
    del whole["engine"]
    shown = table(whole, found)
    assert "MISSED" in shown
    assert shown.count("pass") == len(found) - 1
