"""Words of one context with their times in; for each stretch of its audio, its characters with
theirs out. Pure.

Characters of a word share its time evenly; one space stands for whatever lies between two words.
Together the stretches cover the audio without a gap: clients add them up.
"""

from collections import deque
from dataclasses import dataclass

from chatterbox.api import SAMPLE_RATE
from daemon.speaking.outputs import TimedWord


@dataclass(frozen=True, slots=True)
class Stretch:
    """`starts_ms` count from the start of the context; `base_ms` is where the stretch begins."""

    chars: list[str]
    starts_ms: list[int]
    base_ms: int
    end_ms: int

    def to_wire(self, *, is_absolute: bool = False) -> dict[str, object]:
        """Times count from the stretch, or from the context."""
        ends_ms = [*self.starts_ms[1:], self.end_ms]
        origin_ms = 0 if is_absolute else self.base_ms
        return {
            "chars": self.chars,
            "charStartTimesMs": [start_ms - origin_ms for start_ms in self.starts_ms],
            "charDurationsMs": [
                end_ms - start_ms for start_ms, end_ms in zip(self.starts_ms, ends_ms, strict=True)
            ],
        }


class Alignment:
    """One context's. `tempo` 2 is audio that is twice as fast as the words' times."""

    def __init__(self, *, tempo: float = 1.0) -> None:
        self._samples_per_ms = SAMPLE_RATE * tempo / 1000
        self._text: list[str] = []
        self._chars: deque[tuple[str, int]] = deque()  # with the sample that each starts at
        self._last: TimedWord | None = None
        self._is_spaced = True
        self._end_ms = 0

    def add_text(self, text: str) -> None:
        """As the utterance got it: words name positions in it."""
        self._text += text

    def add_word(self, word: TimedWord) -> None:
        if self._last is not None and word.start > self._last.end:
            self._add_space()
        num_chars = max(1, word.end - word.start)
        num_samples = word.end_sample - word.start_sample
        for place, char in enumerate(self._text[word.start : word.end]):
            self._chars.append((char, word.start_sample + num_samples * place // num_chars))
        self._last, self._is_spaced = word, False
        if "".join(self._text[word.end : word.end + 1]).isspace():
            self._add_space()

    def _add_space(self) -> None:
        if self._last is not None and not self._is_spaced:
            self._chars.append((" ", self._last.end_sample))
            self._is_spaced = True

    def take(self, num_samples: int) -> Stretch | None:
        """The characters that start before so many samples of the context and were not taken yet;
        None if there are none, and then the next stretch begins where this one would have."""
        end_ms = int(num_samples / self._samples_per_ms)
        chars, starts_ms = [], []
        earliest_ms = self._end_ms
        while self._chars and self._chars[0][1] < num_samples:
            char, sample = self._chars.popleft()
            earliest_ms = min(max(int(sample / self._samples_per_ms), earliest_ms), end_ms)
            chars.append(char)
            starts_ms.append(earliest_ms)
        if not chars:
            return None
        stretch = Stretch(chars, starts_ms, base_ms=self._end_ms, end_ms=end_ms)
        self._end_ms = end_ms
        return stretch

    def take_rest(self, num_samples: int) -> Stretch | None:
        """The same at the end of the context: nothing comes that could begin later. Silence behind
        the last word is one more space."""
        self._chars = deque((char, min(sample, num_samples - 1)) for char, sample in self._chars)
        if not self._chars and int(num_samples / self._samples_per_ms) > self._end_ms:
            self._chars.append((" ", num_samples - 1))
        return self.take(num_samples)
