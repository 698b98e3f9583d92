"""The benchmarks and the check for GPU machines, at small sizes: what nobody runs, rots."""

import asyncio
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from chatterbox.sine import SineEngine
from tests.bench import gpu_first_audio, gpu_precision, gpu_stages
from tests.gpu.shapes import shaped_engine
from tools import gpu_check


def test_stages_are_measured() -> None:
    """Every stage and the whole step, both ways, in positive times."""
    found: dict[str, Any] = gpu_stages.measure(
        "tiny-gpt2",
        rows=[1, 2],
        compiled_rows=[],
        dtype="float32",
        repeats=1,
        steps=12,
    )
    for level in found["rows"].values():
        assert set(level) == {"t3_decode", "flow", "vocoder", "step"}
        for stage in level.values():
            assert stage["ours_ms"] > 0
            ratio = stage["eager_ms"] / stage["ours_ms"]
            # Written with two decimals, of times with three.
            assert stage["eager_over_ours"] == pytest.approx(ratio, rel=0.01, abs=0.006)
    json.dumps(found)


def test_listeners_are_measured() -> None:
    """Each listener hears all of its segments, in both kinds of load."""
    engine = shaped_engine("tiny-gpt2", num_slots=2)
    found: dict[str, Any] = asyncio.run(
        gpu_first_audio.engine_under_load(engine, levels=[2], rounds=1, text="hi")
    )
    for kind in ("closed", "poisson"):
        assert found["2"][kind]["failed"] == 0
        assert math.isfinite(found["2"][kind]["first_audio_ms"]["p99"])
        assert found["2"][kind]["audio_s_per_s"] > 0
    assert engine.stages.captured[-1].eager_runs > 0


def test_many_tones_are_carried() -> None:
    """The scheduler and the loop with 50 listeners, and an engine that costs nothing."""
    engine = SineEngine(num_slots=50, samples_per_step=24_000)
    found: dict[str, Any] = asyncio.run(
        gpu_first_audio.engine_under_load(engine, levels=[50], rounds=1, text="one")
    )
    assert found["50"]["closed"]["failed"] == 0


def test_the_usual_way_is_measured() -> None:
    """The baseline runs the same modules."""
    found = gpu_first_audio.usual_way("tiny-gpt2", dtype="float32")
    assert found["first_audio_ms"] > 0
    assert found["real_time_factor"] > 0


@pytest.mark.parametrize("shape", ["tiny-gpt2", "tiny-llama"])
def test_precision_measures_a_distance(shape: str) -> None:
    """Zero to itself, above zero in fewer bits, and far below what another model would give."""
    exact = shaped_engine(shape, num_slots=1, eager=True)
    same = gpu_precision.distances(exact, exact, "hello")
    assert same["t3_divergence_nats"] == same["flow_mel_rms_db"] == 0
    assert same["t3_same_likeliest"] == 1
    fewer = shaped_engine(shape, num_slots=1, eager=True, dtype="bfloat16")
    found = gpu_precision.distances(exact, fewer, "hello")
    assert 0 < found["t3_divergence_nats"] < 0.5
    assert 0 < found["flow_mel_rms_db"] < 3
    assert 10 < found["vocoder_snr_db"] < 80


def test_logits_are_those_of_the_decoder() -> None:
    """Distances of T3 are between teacher-forced passes; one that were not the decoder's pass would
    measure something else. The likeliest tokens of a draw at temperature 0 must be the drawn ones.
    """
    for shape in ("tiny-gpt2", "tiny-llama"):
        engine = shaped_engine(shape, num_slots=1, eager=True)
        text, speech = gpu_precision.spoken_tokens(engine, "hello")
        logits = gpu_precision.logits(engine, text, speech)
        chosen = logits.log_softmax(-1)[torch.arange(len(speech)), speech]
        # Drawn tokens are far likelier than one of 6,561 at random would be.
        assert float(chosen.mean()) > float(logits.log_softmax(-1).mean()) + 3


def test_check_says_that_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a laptop `make gpu-check` is one line and no failure."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_check.py"])
    assert gpu_check.main() == 0
    assert "no CUDA device" in capsys.readouterr().out


def test_check_gathers_figures_and_failures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A benchmark that fails must fail the check, and must not cost the others' figures."""
    heard = {"first_audio_ms": {"p50": 1.0, "p95": 2.0}}
    streams = {"1": {"closed": heard, "poisson": heard}}

    def figures_of(run: gpu_check.Run, *, limit_s: float) -> dict[str, Any]:
        assert limit_s > 0
        return {"streams": streams} if run.name == "small_streams" else {"failed": "exit status 1"}

    monkeypatch.setattr(gpu_check, "figures_of", figures_of)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_check.py", "--small", "--out", str(tmp_path)])
    assert gpu_check.main() == 1
    written = json.loads((tmp_path / "gpu-check.json").read_text())
    assert written["figures"]["small_streams"]["streams"] == streams
    assert written["figures"]["small_stages"]["failed"] == "exit status 1"


def test_check_reports_a_benchmark_that_breaks(tmp_path: Path) -> None:
    """Its exit status, instead of a traceback of the check itself."""
    broken = gpu_check.Run("broken", (str(tmp_path / "none.py"),))
    assert gpu_check.figures_of(broken, limit_s=60)["failed"] == "exit status 2"
    slow = tmp_path / "slow.py"
    slow.write_text("import time; time.sleep(60)")
    found = gpu_check.figures_of(gpu_check.Run("slow", (str(slow),)), limit_s=0.5)
    assert "no figures after" in found["failed"]


def test_check_leaves_out_what_there_is_no_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes are ten minutes: the lease of a machine ends."""
    assert gpu_check.measured(gpu_check.SMALL, until_s=0.0) == {
        run.name: {"failed": "no time was left"} for run in gpu_check.SMALL
    }


def test_a_gpu_machine_needs_little() -> None:
    """A lent GPU has torch, numpy, safetensors, tokenizers, uvloop and pytest, and no network."""
    program = """
import sys

class Absent:
    names = {
        "aiohttp", "hibari", "huggingface_hub", "matplotlib", "num2words", "onnxruntime",
        "opuslib_next", "playwright", "prometheus_client", "pyloudnorm", "pynvml", "soxr",
        "torchaudio", "websockets",
    }

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is not on a GPU machine")

sys.meta_path.insert(0, Absent())
from tests.bench import gpu_first_audio, gpu_precision, gpu_stages
from tests.gpu import test_engine_on_gpu
from tools import gpu_check
import tests.conftest
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)
