"""Events of the daemon in, Prometheus's text out. Knows no socket; docs/operating.md explains them.

Counters are moved as things happen; gauges are asked for when somebody reads the page.
"""

from collections.abc import Callable, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from chatterbox.api import EngineStats
from daemon.config import SERVER_VERSION
from daemon.engine.stepper import EngineReport
from daemon.speaking.account import UtteranceSummary

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST_AUDIO_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_STAGE_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.04, 0.08, 0.2, 0.5, 1.0)
_STEP_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """One daemon's. Its registry is its own, so that tests can run several daemons."""

    def __init__(self) -> None:
        self.num_slots_in_use = 0
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._info = Info("chatterboxd", "Which daemon this is.", registry=self._registry)
        self._utterances = self._counter(
            "utterances", "Contexts that have ended, by how they ended.", ("outcome",)
        )
        self._first_audio = self._histogram(
            "first_audio_seconds",
            "From a context's first text to its first packet on the socket.",
            _FIRST_AUDIO_S,
        )
        self._underruns = self._counter(
            "underruns", "Times that a listener ran dry while the engine owed audio."
        )
        self._underrun_s = self._counter("underrun_seconds", "How long those listeners were dry.")
        self._late_texts = self._counter(
            "late_texts", "Times that a listener ran dry because the text came too late."
        )
        self._audio_s = self._counter("audio_seconds", "Speech sent to listeners.")
        self._chars = self._counter("text_chars", "Characters that clients sent to be spoken.")
        self._failed_segments = self._counter("failed_segments", "Segments that were left out.")
        self._errors = self._counter("errors", "Errors told to clients, by code.", ("code",))
        self._closes = self._counter(
            "session_closes", "Sessions that have ended, by WebSocket close code.", ("close_code",)
        )
        self._refusals = self._counter(
            "refusals", "Connections refused before the upgrade, by reason.", ("reason",)
        )
        self._received = self._counter("received_bytes", "Bytes of clients' messages.")
        self._sent = self._counter("sent_bytes", "Bytes of messages to clients.", ("kind",))
        self._sent_audio = self._sent.labels("audio")
        self._sent_control = self._sent.labels("control")
        self._steps = self._histogram(
            "step_seconds", "How long one step of the engine took.", _STEP_S
        )
        self._stage_s = self._histogram(
            "stage_seconds", "How long one run of a stage took on the device.", _STAGE_S, ("stage",)
        )
        self._replays = self._counter(
            "graph_replays",
            "Replays of captured steps, by their shape.",
            ("stage", "rows", "size"),
        )
        self._eager_runs = self._counter(
            "eager_runs", "Runs of a stage that was not captured.", ("stage",)
        )
        self._speech_tokens = self._counter("speech_tokens", "Speech tokens that were drawn.")
        self._device_bytes = self._gauge(
            "device_memory_bytes", "Memory of the GPU that this process holds."
        )
        self._slots_in_use = self._gauge("slots_in_use", "Slots that speak.")
        self._waiting = self._gauge("waiting_contexts", "Contexts that wait for a free slot.")
        self._answer_s = self._gauge(
            "engine_answer_seconds", "How long the engine thread took to answer its last heartbeat."
        )

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"chatterboxd_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"chatterboxd_{name}", text, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(
            f"chatterboxd_{name}", text, labels, buckets=buckets, registry=self._registry
        )

    def page(self) -> bytes:
        return generate_latest(self._registry)

    # --- asked when the page is read --------------------------------------------------------------

    def watch(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        """Name → (meaning, how to learn the value)."""
        for name, (text, ask) in gauges.items():
            self._gauge(name, text).set_function(ask)

    # --- told as things happen --------------------------------------------------------------------

    def note_model(self, model: str) -> None:
        self._info.info({"version": SERVER_VERSION, "model": model})

    def note_engine(self, report: EngineReport) -> None:
        for step_s in report.steps_s:
            self._steps.observe(step_s)
        self.num_slots_in_use = report.num_busy
        self._slots_in_use.set(report.num_busy)
        self._waiting.set(report.num_waiting)
        if report.stats is not None:
            self._note_stats(report.stats)

    def _note_stats(self, stats: EngineStats) -> None:
        self._speech_tokens.inc(stats.speech_tokens)
        self._device_bytes.set(stats.device_bytes)
        for stage in stats.stages:
            timed = self._stage_s.labels(stage.name)
            for stage_s in stage.seconds:
                timed.observe(stage_s)
            self._eager_runs.labels(stage.name).inc(stage.eager_runs)
            for (rows, size), count in stage.replays.items():
                self._replays.labels(stage.name, str(rows), str(size)).inc(count)

    def note_engine_answer(self, answer_s: float) -> None:
        self._answer_s.set(answer_s)

    def note_refusal(self, reason: str) -> None:
        self._refusals.labels(reason).inc()

    def note_received(self, num_bytes: int) -> None:
        self._received.inc(num_bytes)

    def note_sent(self, message: str | bytes, *, is_audio: bool = False) -> None:
        """Binary messages are always audio."""
        has_audio = is_audio or isinstance(message, bytes)
        kind = self._sent_audio if has_audio else self._sent_control
        kind.inc(len(message))

    def note_error(self, code: str) -> None:
        self._errors.labels(code).inc()

    def note_close(self, close_code: int) -> None:
        self._closes.labels(str(close_code)).inc()

    def note_utterance(self, summary: UtteranceSummary) -> None:
        self._utterances.labels(summary.outcome.value).inc()
        if summary.first_audio_s is not None:
            self._first_audio.observe(summary.first_audio_s)
        self._underruns.inc(summary.num_underruns)
        self._underrun_s.inc(summary.underrun_s)
        self._late_texts.inc(summary.num_late_texts)
        self._audio_s.inc(summary.audio_s)
        self._chars.inc(summary.num_chars)
        self._failed_segments.inc(summary.num_failed_segments)
