"""Speech tokens of one generation in, whether they only repeat themselves out. No torch.

A token predictor that has lost its place says the same few tokens again and again and never stops.
"""

from collections import deque

from chatterbox.config import TOKEN_RATE

LONGEST_LOOP = 16
"""Tokens of the longest loop that is looked for: 0.64 s."""
LOOP_S = 1.5
"""No speaker says the very same tokens over and over for so long."""


class LoopWatch:
    """Push each token: one that equals the token `p` before it prolongs the loop of length `p`."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=LONGEST_LOOP)
        self._runs = [0] * LONGEST_LOOP

    def push(self, token: int) -> None:
        for index, earlier in enumerate(self._recent):
            self._runs[index] = self._runs[index] + 1 if earlier == token else 0
        self._recent.appendleft(token)

    @property
    def repeated(self) -> int:
        """Tokens at the end that say nothing new, once they last too long; else 0."""
        longest = max(self._runs)
        return longest if longest >= LOOP_S * TOKEN_RATE else 0
