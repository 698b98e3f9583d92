"""`python -m chatterbox.training.curves STATE… --out FILE`: training logs in, a picture of how the
losses fell out.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES: Mapping[str, Mapping[str, str]] = {
    "t3": {"ce": "cross-entropy, nats a token"},
    "decoder": {"mu": "mu, mean error", "flow": "flow matching"},
    "vocoder": {"spectral": "spectral distance", "mel": "mel, mean error"},
}
"""Stage → key of its log → what it is."""
COLOURS = ("#c8501e", "#2f6f9f")
_SIZE_INCHES = (10.0, 3.0)
_DOTS_PER_INCH = 110


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of one stage. A run that was taken up again goes on; one that began anew replaces
    what it logged before.
    """
    rows: list[dict[str, float]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row: dict[str, float] = json.loads(line)
        rows = [earlier for earlier in rows if earlier["step"] < row["step"]]
        rows.append(row)
    return rows


def draw(logs: Mapping[str, list[dict[str, float]]], path: Path) -> None:
    """One panel for each stage that has a log."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    panels = figure.subplots(1, len(logs), squeeze=False)[0]
    for axes, (stage, rows) in zip(panels, logs.items(), strict=True):
        _panel(axes, stage, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DOTS_PER_INCH, metadata={"Software": None})


def _panel(axes: "Axes", stage: str, rows: list[dict[str, float]]) -> None:
    minutes = [row["elapsed_s"] / 60 for row in rows]
    for colour, (key, label) in zip(COLOURS, CURVES[stage].items(), strict=False):
        axes.plot(minutes, [row[key] for row in rows], color=colour, label=label)
    axes.set_title(f"{stage}, {rows[-1]['step']:,.0f} steps", fontsize=9)
    axes.set_xlabel("minutes of training", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw the newest log of each stage among the folders."""
    made = argparse.ArgumentParser(prog="python -m chatterbox.training.curves", description=__doc__)
    made.add_argument("state", type=Path, nargs="+", help="folders with the logs of training")
    made.add_argument("--out", type=Path, default=Path("docs/training.png"))
    arguments = made.parse_args()
    logs = {}
    for stage in CURVES:
        found = [folder / f"{stage}.jsonl" for folder in arguments.state]
        newest = [path for path in found if path.exists()]
        if newest:
            logs[stage] = read_log(newest[-1])
    if not logs:
        made.error("none of these folders holds a log (t3.jsonl, decoder.jsonl, vocoder.jsonl)")
    draw(logs, arguments.out)


if __name__ == "__main__":
    main()
