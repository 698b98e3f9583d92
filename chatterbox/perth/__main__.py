"""Sound files in, how likely each carries the mark out: `python -m chatterbox.perth FILE …`"""

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE
from chatterbox.conditioning.resample import resample_clip
from chatterbox.perth.detector import SHORTEST, Detector, load_detector
from chatterbox.perth.weights import WatermarkUnavailable

EXCERPT_S = 10
"""A long recording is also judged in pieces: marked speech may be a part of it only."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m chatterbox.perth",
        description="Is this speech marked? 0 is surely not, 1 is surely; docs/operating.md says"
        " how often that is right.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    files = parser.parse_args().files
    try:
        detector = load_detector()
    except WatermarkUnavailable as error:
        sys.stderr.write(f"python -m chatterbox.perth: {error}\n")
        return 1
    status = 0
    for path in files:
        try:
            sys.stdout.write(f"{verdict(detector, path)}  {path}\n")
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            sys.stderr.write(f"python -m chatterbox.perth: {path}: {error}\n")
            status = 1
    return status


def verdict(detector: Detector, path: Path) -> str:
    """The likelihood of the whole, and of its pieces if there are several."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if not np.isfinite(samples).all():
        raise ValueError("some of its samples are no numbers")
    wave = resample_clip(np.ascontiguousarray(samples.mean(axis=1)), rate)
    whole = f"{detector.likelihood(wave):.3f}"
    pieces = [detector.likelihood(piece) for piece in _pieces(wave)]
    if len(pieces) < 2:
        return whole
    return f"{whole} ({sum(likelihood > 0.5 for likelihood in pieces)} of {len(pieces)} pieces)"


def _pieces(wave: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    size = EXCERPT_S * SAMPLE_RATE
    cut = [wave[start : start + size] for start in range(0, wave.size, size)]
    return [piece for piece in cut if piece.size >= SHORTEST]


if __name__ == "__main__":
    sys.exit(main())
