"""What one listener was given and took in, what the engine thread must know of it out.

Where the listener is, so that the engine knows its deadline, and to hold still while nothing of
what was made gets out.
"""

from collections.abc import Iterable

from chatterbox.api import SAMPLE_RATE
from daemon.engine.commands import Hold, SetOrigin
from daemon.engine.scheduler import UtteranceId
from daemon.engine.thread import EngineThread
from daemon.speaking.outputs import Samples, UtteranceOutput
from daemon.speaking.playback import PlaybackClock

_HOLD_AT_SAMPLES = 20 * SAMPLE_RATE
"""More than the longest segment, which may be made ahead of time to free its slot; so it is reached
only when nothing gets out."""
_GO_ON_AT_SAMPLES = 10 * SAMPLE_RATE
_ORIGIN_STEP_S = 0.001
"""Smaller changes of a listener's position are no news."""


class Feedback:
    """One listener's. `clock` is moved by whoever sends; `note_…` is called afterwards."""

    def __init__(
        self, utterance_id: UtteranceId, *, clock: PlaybackClock, engine: EngineThread
    ) -> None:
        self._utterance_id = utterance_id
        self._clock = clock
        self._engine = engine
        self._num_put = 0
        self._num_pause_samples = 0
        self._is_held = False
        self._origin_s: float | None = None

    def note_put(self, outputs: Iterable[UtteranceOutput]) -> None:
        """These wait to be sent from now on."""
        for output in outputs:
            if isinstance(output, Samples):
                self._num_put += output.samples.size
                if output.is_pause:
                    self._num_pause_samples += output.samples.size
        self._update_hold()

    def note_sent(self) -> None:
        self._update_hold()
        self._update_origin()

    def _update_hold(self) -> None:
        backlog = self._num_put - self._clock.num_sent
        is_held = backlog > (_GO_ON_AT_SAMPLES if self._is_held else _HOLD_AT_SAMPLES)
        if is_held != self._is_held:
            self._is_held = is_held
            self._engine.post(Hold(self._utterance_id, is_held))

    def _update_origin(self) -> None:
        """The engine counts speech without the pauses between segments."""
        origin_s = self._clock.origin_s
        if origin_s is None:
            return
        origin_s += self._num_pause_samples / SAMPLE_RATE
        if self._origin_s is None or abs(origin_s - self._origin_s) >= _ORIGIN_STEP_S:
            self._origin_s = origin_s
            self._engine.post(SetOrigin(self._utterance_id, origin_s))
