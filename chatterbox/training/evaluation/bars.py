"""All figures in; the bars that the bundled voice must pass, each with its figure, out. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Figures = Mapping[str, Any]

WER_OVER_TEACHER = 5.0
DNSMOS_BELOW_TEACHER = 0.3
REAL_TIME_FACTOR = 0.2
FIRST_AUDIO_MS = 150.0
"""From the text to the sound: what the daemon takes. The wait for a writer's next words, which is
in the other figure of the table, is the writer's.
"""
CHECKPOINT_MB = 30.0
CHANCE = 0.001
"""So many loud joins may be chance down to this probability."""


@dataclass(frozen=True, slots=True)
class Bar:
    """`is_passed` is None where nothing was measured."""

    name: str
    figure: float | None
    wanted: str
    is_passed: bool | None


def bars(figures: Figures) -> list[Bar]:
    """Bars of the engine against the teacher."""
    ours, teacher = figures.get("engine", {}), figures.get("teacher", {})
    first_audio = figures.get("first_audio", {})
    most_wer = _plus(teacher.get("wer_percent"), WER_OVER_TEACHER)
    least_mos = _plus(teacher.get("dnsmos"), -DNSMOS_BELOW_TEACHER)
    return [
        _at_most("word error rate, %", ours.get("wer_percent"), most_wer),
        _at_least("DNSMOS", ours.get("dnsmos"), least_mos),
        _at_most("truncated texts", ours.get("truncated"), 0),
        _at_most("runaway texts", ours.get("runaway"), 0),
        *_seam_bars(ours.get("seams")),
        _at_most("real-time factor, one core", ours.get("real_time_factor"), REAL_TIME_FACTOR),
        _at_most(
            "first audio p50, ms", first_audio.get("first_audio_at_once_ms_p50"), FIRST_AUDIO_MS
        ),
        _at_most("checkpoint, MB", figures.get("checkpoint_mb"), CHECKPOINT_MB),
    ]


def _seam_bars(seams: Figures | None) -> list[Bar]:
    """No more joins stand out than the same places do where only the noise differs, and no kind of
    join is loud more often than chance has it.
    """
    levels = [level for kind in (seams or {}).values() for level in kind.values()]
    standing_out = sum(level["standing_out"] for level in levels) if levels else None
    by_noise = sum(level["standing_out_by_noise"] for level in levels)
    chance = min((level["chance"] for level in levels), default=None)
    return [
        _at_most("joins that stand out", standing_out, by_noise),
        _at_least("chance of as many loud joins", chance, CHANCE),
    ]


def _plus(value: float | None, more: float) -> float | None:
    return None if value is None else value + more


def _at_most(name: str, figure: float | None, limit: float | None) -> Bar:
    if figure is None or limit is None:
        return Bar(name, figure, _wanted("≤", limit), None)
    return Bar(name, figure, _wanted("≤", limit), figure <= limit)


def _at_least(name: str, figure: float | None, limit: float | None) -> Bar:
    if figure is None or limit is None:
        return Bar(name, figure, _wanted("≥", limit), None)
    return Bar(name, figure, _wanted("≥", limit), figure >= limit)


def _wanted(sign: str, limit: float | None) -> str:
    return f"{sign} teacher's" if limit is None else f"{sign} {limit:.4g}"
