"""An engine thread that answers, or does not, in; whether the daemon is alive out.

The question goes through the command queue, so the answer proves the event loop, the queue and the
engine between two steps, idle or not. A stuck step answers nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable


class Heartbeat:
    """`ask` returns when the engine has answered. `on_beat` is told how long that took."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[None]],
        *,
        interval_s: float,
        on_beat: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._interval_s = interval_s
        self._on_beat = on_beat
        self._clock = clock
        self._asked_s: float | None = None

    async def run(self) -> None:
        while True:
            self._asked_s = self._clock()
            await self._ask()
            answer_s = self._clock() - self._asked_s
            self._asked_s = None
            self._on_beat(answer_s)
            await asyncio.sleep(self._interval_s)

    @property
    def silent_for_s(self) -> float:
        """How long an answer has been owed."""
        return 0.0 if self._asked_s is None else self._clock() - self._asked_s
