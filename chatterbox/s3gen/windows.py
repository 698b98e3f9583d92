"""How many speech tokens and mel frames exist → which window comes next. Integers only, no tensors.

The boundaries are a fixed function of the token index, never of load or of when text arrived: that
is what makes the same segment the same samples.
"""

from dataclasses import dataclass

from chatterbox.config import LOOKAHEAD_TOKENS, MEL_FRAMES_PER_TOKEN, FlowConfig, VocoderConfig


@dataclass(frozen=True, slots=True)
class TokenWindow:
    """[voice prompt | context | new | lookahead]: the tokens of one call of the flow, without the
    prompt.
    """

    first: int
    """Index of the first context token."""
    context: int
    new: int
    lookahead: int

    @property
    def tokens(self) -> int:
        return self.context + self.new + self.lookahead

    @property
    def committed(self) -> int:
        """Tokens whose mel is committed once this window is."""
        return self.first + self.context + self.new


@dataclass(frozen=True, slots=True)
class FrameWindow:
    """Mel frames that the vocoder sees, and those of them whose samples go out."""

    first: int
    frames: int
    emit_from: int
    emit_to: int


def frames_at(committed: int, *, speed: float) -> int:
    """Mel frames for the vocoder when so many of the flow's exist: frame i of a speech at another
    speed is frame `int(i * speed)` of those. As many as there are at speed 1.
    """
    frames = int(committed / speed)
    # The division may round the other way than the product, by which the frames are found.
    while int(frames * speed) < committed:
        frames += 1
    while frames and int((frames - 1) * speed) >= committed:
        frames -= 1
    return frames


class TokenSchedule:
    """New tokens per window: the first few sizes as configured, then one size for ever."""

    def __init__(self, config: FlowConfig) -> None:
        self._first = config.first_windows
        self._steady = config.window_tokens
        self._context = config.context_tokens
        self._whole_prefix = config.whole_prefix_tokens
        self._prompt = config.max_prompt_tokens

    def window_of(self, token: int) -> int:
        """Index of the window that commits `token`; the block id of block-causal attention."""
        end = 0
        for index, size in enumerate(self._first):
            end += size
            if token < end:
                return index
        return len(self._first) + (token - end) // self._steady

    def boundary_after(self, token: int) -> int:
        """First token of the window after the one that commits `token`."""
        end = 0
        for size in self._first:
            end += size
            if token < end:
                return end
        return end + ((token - end) // self._steady + 1) * self._steady

    def next_window(self, committed: int, available: int, *, finished: bool) -> TokenWindow | None:
        """The window after `committed` tokens, once enough of the `available` ones exist; None
        until then.

        `finished` says that no more tokens come. A window always takes the tokens to its boundary,
        or to the end.
        """
        end = self.boundary_after(committed)
        if finished:
            end = min(end, available)
        elif available < end + LOOKAHEAD_TOKENS:
            return None
        if end <= committed:
            return None
        sees_all = self.boundary_after(committed) <= self._whole_prefix
        context = committed if sees_all else min(committed, self._context)
        lookahead = min(LOOKAHEAD_TOKENS, available - end)
        return TokenWindow(committed - context, context, end - committed, lookahead)

    def capacities(self) -> tuple[int, ...]:
        """Rising sizes in tokens, prompt included, that hold every window; the shapes that are
        captured.
        """
        sizes, committed = set(), 0
        # From there on, all windows are alike.
        alike_from = sum(self._first) + max(self._context, self._whole_prefix)
        while committed <= alike_from + self._steady:
            available = self.boundary_after(committed) + LOOKAHEAD_TOKENS
            window = self.next_window(committed, available, finished=False)
            assert window is not None, "enough tokens are available"
            sizes.add(self._prompt + window.tokens)
            committed = window.committed
        return tuple(sorted(sizes))


class FrameSchedule:
    """The vocoder follows the committed mel at the distance of its right context."""

    def __init__(self, config: VocoderConfig) -> None:
        self._left = config.left_context_frames
        self._first_right = config.first_right_context_frames
        self._right = config.right_context_frames

    def next_window(
        self, emitted: int, committed: int, *, finished: bool, most: int | None = None
    ) -> FrameWindow | None:
        """Frames that can become samples when `committed` mel frames exist and `emitted` were
        voiced; a window has at most `most` frames.
        """
        first = max(0, emitted - self._left)
        if most is not None and committed - first > most:
            committed, finished = first + most, False
        right = 0 if finished else (self._right if emitted else self._first_right)
        emit_to = committed - right
        if emit_to <= emitted:
            return None
        return FrameWindow(first, committed - first, emitted, emit_to)

    def capacities(self, tokens: TokenSchedule) -> tuple[int, ...]:
        """Rising sizes in mel frames that hold every window, when each committed window is voiced
        at once.
        """
        sizes, committed, emitted = set(), 0, 0
        for _ in range(8):
            boundary = tokens.boundary_after(committed)
            for finished in (True, False):
                window = self.next_window(
                    emitted, boundary * MEL_FRAMES_PER_TOKEN, finished=finished
                )
                assert window is not None, "every token window yields frames"
                sizes.add(window.frames)
                emit_to = window.emit_to
            committed, emitted = boundary, emit_to
        return tuple(sorted(sizes))
