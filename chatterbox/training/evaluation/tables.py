"""All figures in; the table that people read, and the one line of JSON that programs read, out."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from chatterbox.training.evaluation.bars import Bar

Figures = Mapping[str, Any]
_COLUMNS = (
    ("WER %", "wer_percent", "{:.1f}"),
    ("DNSMOS", "dnsmos", "{:.2f}"),
    ("RTF", "real_time_factor", "{:.3f}"),
    ("CPU", "processor_s_per_audio_s", "{:.3f}"),
    ("cut", "truncated", "{:.0f}"),
    ("runaway", "runaway", "{:.0f}"),
    ("texts", "texts", "{:.0f}"),
)
_SYSTEMS = ("teacher", "vocoder", "tokens", "engine")

# Row, section, teacher's figure (or none), ours, format; the last column is the difference.
_PROSODY = (
    ("pause at commas, share", "pauses_at_commas", "teacher_share", "share", "{:.2f}"),
    ("pause at commas, ms", "pauses_at_commas", "teacher_ms", "ms", "{:.0f}"),
    ("pause at sentence ends, share", "pauses_at_stops", "teacher_share", "share", "{:.2f}"),
    ("pause at sentence ends, ms", "pauses_at_stops", "teacher_ms", "ms", "{:.0f}"),
    ("pause elsewhere, % of gaps", "pauses_elsewhere", "teacher_percent", "percent", "{:.2f}"),
    ("F0 mean, Hz", "f0", "teacher_mean_hz", "mean_hz", "{:.1f}"),
    ("F0 deviation, semitones", "f0", "teacher_std_st", "std_st", "{:.2f}"),
    ("F0 range (5 to 95 %), semitones", "f0", "teacher_range_st", "range_st", "{:.2f}"),
    ("F0 correlation, aligned", "f0", None, "correlation", "{:.2f}"),
    ("F0 error (rms), semitones", "f0", None, "rmse_st", "{:.2f}"),
    ("voiced or not, agreement", "f0", None, "voicing_agreement", "{:.2f}"),
    ("questions that rise", "questions", "teacher_rises", "rises", "{:.0f}"),
    ("rise or not, agreement", "questions", None, "agreement", "{:.2f}"),
    (
        *("end of questions, semitones", "questions", "teacher_movement_st", "movement_st"),
        "{:+.2f}",
    ),
    ("end of questions, mean error", "questions", None, "off_by_st", "{:.2f}"),
    ("whole length, ratio", "durations", None, "total_ratio", "{:.3f}"),
    ("word length, ratio", "durations", None, "word_ratio", "{:.3f}"),
    ("word length, mean error %", "durations", None, "word_off_by_percent", "{:.0f}"),
    ("word length, correlation", "durations", None, "word_correlation", "{:.2f}"),
    (
        *("stressed words louder by, dB", "emphasis", "teacher_stressed_db", "stressed_db"),
        "{:+.2f}",
    ),
    ("loudness of words, correlation", "emphasis", None, "word_db_correlation", "{:.2f}"),
    (
        *("stressed words higher by, st", "emphasis", "teacher_stressed_st", "stressed_st"),
        "{:+.2f}",
    ),
    ("height of words, correlation", "emphasis", None, "word_st_correlation", "{:.2f}"),
)


def table(figures: Figures, judged: list[Bar]) -> str:
    """Everything, section by section."""
    sections = (_systems(figures), _prosody(figures), _streaming(figures), _bars(judged))
    return "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines)


def json_line(figures: Figures, judged: list[Bar]) -> str:
    """All figures, rounded; what could not be measured is null."""
    passed = {bar.name: bar.is_passed for bar in judged}
    return json.dumps(_plain({**figures, "bars": passed}))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def _judged_systems(figures: Figures) -> dict[str, Figures]:
    return {name: figures[name] for name in _SYSTEMS if name in figures}


def _systems(figures: Figures) -> Iterator[str]:
    yield "system     stratum    " + " ".join(f"{title:>8}" for title, _, _ in _COLUMNS)
    for name, system in _judged_systems(figures).items():
        for stratum, row in {**system["strata"], "all": system}.items():
            cells = (form.format(row[key]) for _, key, form in _COLUMNS)
            yield f"{name:10} {stratum:10} " + " ".join(f"{cell:>8}" for cell in cells)


def _prosody(figures: Figures) -> Iterator[str]:
    pupils = {name: row for name, row in _judged_systems(figures).items() if name != "teacher"}
    if not pupils:
        return
    yield f"{'against the teacher':34} {'teacher':>8} " + " ".join(f"{n:>8}" for n in pupils)
    for title, section, teachers, ours, form in _PROSODY:
        sections = [system["prosody"][section] for system in pupils.values()]
        theirs = _cell(form, sections[0][teachers]) if teachers else ""
        cells = (_cell(form, row[ours]) for row in sections)
        yield f"{title:34} {theirs:>8} " + " ".join(f"{cell:>8}" for cell in cells)


def _cell(form: str, value: float) -> str:
    return form.format(value) if math.isfinite(value) else "-"


def _streaming(figures: Figures) -> Iterator[str]:
    engine = figures.get("engine", {})
    if "seams" in engine:
        yield (
            f"{'joins of windows':34} {'joins':>8} {'over dB':>8} {'loud':>8} {'beside':>8}"
            f" {'teacher':>8} {'whole':>8} {'worst dB':>8} {'stand out':>9}"
            f" {'by noise':>8}"
        )
        for kind, levels in engine["seams"].items():
            for level, row in levels.items():
                yield (
                    f"{f'{kind}, {level}':34} {row['joins']:8.0f}"
                    f" {row['over_surroundings_db']:8.2f} {row['loud_share']:8.3f}"
                    f" {row['loud_share_elsewhere']:8.3f} {row['loud_share_teacher']:8.3f}"
                    f" {row['loud_share_whole']:8.3f}"
                    f" {row['worst_over_whole_db']:8.2f} {row['standing_out']:9.0f}"
                    f" {row['standing_out_by_noise']:8.0f}"
                )
        row = engine["streamed_against_whole"]
        yield (
            f"{'streamed against whole, log mel':34} {row['distance_db']:8.3f} dB;"
            f" another seed's noise: {row['noise_distance_db']:.2f} dB"
        )
    if "first_audio" in figures:
        row = figures["first_audio"]
        for title, key in (("as a model writes", ""), ("all text at once", "_at_once")):
            yield (
                f"{f'first audio, {title}':34} p50 {row[f'first_audio{key}_ms_p50']:.0f} ms,"
                f" p95 {row[f'first_audio{key}_ms_p95']:.0f} ms"
            )


def _bars(judged: list[Bar]) -> Iterator[str]:
    yield f"{'bar':34} {'figure':>8} {'wanted':>10}"
    for bar in judged:
        verdict = {True: "pass", False: "MISSED", None: "not measured"}[bar.is_passed]
        figure = "-" if bar.figure is None else f"{bar.figure:.4g}"
        yield f"{bar.name:34} {figure:>8} {bar.wanted:>10}  {verdict}"
