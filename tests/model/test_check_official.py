"""`make check-official`: what it reports is what it compared."""

from pathlib import Path

import numpy as np
import pytest

from tools import check_official
from tools.check_official import check


def test_windows_of_the_bundled_voice_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled voice is block-causal: as long as all of the past is in sight, its windows are
    the whole, and a distance is a fault of the comparison. Other noise must show as one.
    """
    monkeypatch.setattr(check_official, "RECOGNISER", ("not_a_package",))
    figures = check(None, ("Good morning.",), seed=3)
    distance, noise = figures["mel_distance_db"], figures["mel_distance_of_other_noise_db"]
    assert isinstance(distance, float)
    assert isinstance(noise, float)
    assert distance < 0.01 < 0.5 < noise
    assert figures["word_error_rate"] is None
    assert figures["model"] == "tiny"
    seams = figures["seams"]
    assert isinstance(seams, dict)
    assert seams["mel"]["click"]["joins"] > 0
    assert np.abs(seams["samples"]["click"]["worst_over_whole_db"]) < 1.0


def test_a_missing_checkpoint_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual mistake is a folder that is not one."""
    monkeypatch.setattr("sys.argv", ["check_official", "--model", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"check-official: .*no checkpoint there"):
        check_official.main()
