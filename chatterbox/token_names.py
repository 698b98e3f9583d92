"""The states of a voice whose speech tokens have names in, which phonemes sound in each token out.

A token of 40 ms is the phoneme of its first half, that of its second half, and a level of pitch:
token = 9 * state + level. A state is a pair of phonemes; `states.txt` beside the weights keeps
their order (a space written as _).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chatterbox.config import SPEECH_CODES
from chatterbox.frozen import ConfigError

LEVELS = 9
NUM_STATES = SPEECH_CODES // LEVELS


def read_states(path: Path) -> list[str]:
    """The pair of each state. Raises ConfigError for a file that is none."""
    try:
        states = path.read_text(encoding="utf-8").replace("_", " ").split("\n")[:-1]
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; it names this voice's speech tokens"
        ) from None
    if len(states) > NUM_STATES or len(set(states)) < len(states) or {*map(len, states)} != {2}:
        raise ConfigError(f"{path}: not one pair of phonemes a line, {NUM_STATES} at most")
    return states


def phonemes_of_tokens(states: Sequence[str], symbols: Sequence[str]) -> NDArray[np.int16]:
    """[6561, 2]: the text token that sounds in each half of a speech token; -1 where there is
    none.
    """
    number = {symbol: index for index, symbol in enumerate(symbols)}
    halves = np.full((SPEECH_CODES, 2), -1, np.int16)
    for state, pair in enumerate(states):
        halves[LEVELS * state : LEVELS * (state + 1)] = [number.get(char, -1) for char in pair]
    return halves
