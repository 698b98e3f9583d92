"""Figures, readings and joins in, one picture for the documents out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE
from chatterbox.training.evaluation.alignment import aligned
from chatterbox.training.evaluation.bars import WER_OVER_TEACHER
from chatterbox.training.evaluation.reading import STEP_S
from chatterbox.training.evaluation.report import Report
from chatterbox.training.evaluation.seams import AROUND, FLUX, STEP, Floats, click_db
from chatterbox.training.evaluation.streaming import Joined, Streaming
from chatterbox.training.recogniser import Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEACHER, OURS, THIRD = "#444444", "#c8501e", "#2f6f9f"
_SIZE_INCHES = (11.0, 6.4)
_DOTS_PER_INCH = 110


def draw(
    figures: Mapping[str, Any], reports: Mapping[str, Report], streaming: Streaming, path: Path
) -> None:
    """Needs the teacher and the engine among the reports."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        panels = figure.subplots(2, 3)
        _words(panels[0, 0], figures)
        _cleanliness(panels[0, 1], reports)
        _heights(panels[0, 2], reports)
        _pauses(panels[1, 0], reports["engine"])
        _durations(panels[1, 1], reports["engine"])
        _joins(panels[1, 2], streaming.texts)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=_DOTS_PER_INCH, metadata=_no_date(path))


def _no_date(path: Path) -> dict[str, None]:
    """The same figures give the same file."""
    return {"Date": None} if path.suffix == ".svg" else {"Software": None}


def _words(axes: "Axes", figures: Mapping[str, Any]) -> None:
    strata = [*figures["teacher"]["strata"], "all"]
    places = np.arange(len(strata))
    for offset, name, colour in ((-0.2, "teacher", TEACHER), (0.2, "engine", OURS)):
        system = figures[name]
        rows = [*system["strata"].values(), system]
        axes.bar(places + offset, [row["wer_percent"] for row in rows], 0.4, color=colour)
    bar = figures["teacher"]["wer_percent"] + WER_OVER_TEACHER
    axes.axhline(bar, color=THIRD, linestyle="--", linewidth=1)
    axes.annotate("bar", (len(strata) - 0.5, bar), color=THIRD, va="bottom", ha="right")
    axes.set_xticks(places, strata)
    axes.set_title("words that a recogniser mishears, %\n(grey: teacher, orange: ours)")


def _cleanliness(axes: "Axes", reports: Mapping[str, Report]) -> None:
    edges = [1.8 + 0.1 * index for index in range(25)]
    for name, colour in (("teacher", TEACHER), ("engine", OURS)):
        axes.hist(reports[name].mos, edges, color=colour, alpha=0.6, label=name)
    axes.set_xlim(1.8, 4.2)
    axes.set_xlabel("DNSMOS, overall")
    axes.set_title("how clean it sounds, number of texts")


def _heights(axes: "Axes", reports: Mapping[str, Report]) -> None:
    """The F0 of a text of middling length that asks."""
    asked = [text for text in reports["engine"].readings if text.endswith("?")]
    ours_by_text = reports["engine"].readings
    text = sorted(asked or ours_by_text, key=len)[len(asked or ours_by_text) // 2]
    theirs, ours = reports["teacher"].readings[text], ours_by_text[text]
    times = np.arange(STEP_S / 2, theirs.length_s, STEP_S)
    for heights, colour in (
        (theirs.at(theirs.semitones, times), TEACHER),
        (ours.at(ours.semitones, aligned(ours, theirs)(times)), OURS),
    ):
        axes.plot(times, 100 * 2 ** (heights / 12), ".", markersize=2.5, color=colour)
    axes.set_xlabel("seconds of the teacher's reading")
    axes.set_title(f"F0 in Hz, aligned\n“{text}”")


def _pauses(axes: "Axes", engine: Report) -> None:
    kinds = (("comma", OURS, "comma"), ("stop", THIRD, "sentence end"))
    for kind, colour, label in kinds:
        found = [p for text in engine.prosody.texts for p in text.pauses if p.kind == kind]
        x, y = [1000 * p.theirs_s for p in found], [1000 * p.ours_s for p in found]
        axes.plot(x, y, "o", markersize=3, alpha=0.6, color=colour, label=label)
    _diagonal(axes, 400)
    axes.legend(frameon=False)
    axes.set_xlabel("teacher, ms")
    axes.set_title("pauses, ours against the teacher's, ms")


def _durations(axes: "Axes", engine: Report) -> None:
    words = [word for text in engine.prosody.texts for word in text.words]
    x, y = [1000 * word.theirs[0] for word in words], [1000 * word.ours[0] for word in words]
    axes.plot(x, y, "o", markersize=2, alpha=0.4, color=OURS)
    _diagonal(axes, 900)
    axes.set_xlabel("teacher, ms")
    axes.set_title("length of words, ours against the teacher's, ms")


def _diagonal(axes: "Axes", end: float) -> None:
    axes.plot([0, end], [0, end], color=TEACHER, linewidth=0.8)
    axes.set_xlim(0, end)
    axes.set_ylim(0, end)


def _joins(axes: "Axes", texts: Sequence[Joined]) -> None:
    offsets = np.arange(-AROUND, AROUND + 1, STEP)
    for kind, colour in (("mel", OURS), ("samples", THIRD)):
        for is_whole, line in ((False, "-"), (True, ":")):
            profiles = [
                _profile(text.whole if is_whole else text.samples, join, offsets)
                for text in texts
                for join in text.joins[kind]
            ]
            kept = [row for row in profiles if row is not None]
            if kept:
                mean = np.mean(kept, axis=0)
                times_ms = offsets * 1000 / SAMPLE_RATE
                shown = f"{kind}{', rendered whole' if is_whole else ''}"
                axes.plot(times_ms, mean, line, color=colour, label=shown, linewidth=1.2)
    axes.legend(frameon=False)
    axes.set_xlabel("ms from where two windows join")
    axes.set_title("energy of the second difference, dB")


def _profile(samples: Samples, join: int, offsets: NDArray[np.int64]) -> Floats | None:
    places = join + offsets
    if places[0] < FLUX or places[-1] > len(samples) - FLUX:
        return None
    return np.array([click_db(samples, int(place)) for place in places])
