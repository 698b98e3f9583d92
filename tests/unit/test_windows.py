"""The window schedule: integers only, no torch."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.config import FlowConfig, VocoderConfig
from chatterbox.s3gen.windows import (
    FrameSchedule,
    FrameWindow,
    TokenSchedule,
    TokenWindow,
    frames_at,
)

CONFIG = FlowConfig(context_tokens=25, max_prompt_tokens=20)


def _windows(total: int, arrivals: list[int]) -> list[TokenWindow]:
    schedule, committed, available, windows = TokenSchedule(CONFIG), 0, 0, []
    for portion in [*arrivals, total]:
        available = min(total, available + portion)
        finished = available == total
        while window := schedule.next_window(committed, available, finished=finished):
            windows.append(window)
            committed = window.committed
    assert committed == total
    return windows


def test_first_windows_are_short_then_steady() -> None:
    """The schedule that first audio was measured with: 8, 8, 16, then 24, with 3 ahead."""
    windows = _windows(100, [100])
    assert [window.new for window in windows] == [8, 8, 16, 24, 24, 20]
    assert [window.context for window in windows] == [0, 8, 16, 25, 25, 25]
    assert [window.lookahead for window in windows] == [3, 3, 3, 3, 3, 0]
    assert [window.first for window in windows] == [0, 0, 0, 7, 31, 55]


def test_first_audio_needs_eleven_tokens() -> None:
    """8 new tokens and 3 of lookahead, none earlier."""
    schedule = TokenSchedule(CONFIG)
    assert schedule.next_window(0, 10, finished=False) is None
    assert schedule.next_window(0, 11, finished=False) == TokenWindow(0, 0, 8, 3)


@pytest.mark.parametrize("total", range(1, 120))
def test_windows_depend_on_the_total_alone(total: int) -> None:
    """One token at a time, all at once, or in bursts: the same windows, every token exactly
    once.
    """
    at_once = _windows(total, [total])
    assert at_once == _windows(total, [1] * total) == _windows(total, [7, 30, 2])
    assert sum(window.new for window in at_once) == total


def test_block_ids_are_the_windows() -> None:
    """Block-causal masks and windows must agree on where blocks begin."""
    schedule = TokenSchedule(CONFIG)
    for index, window in enumerate(_windows(130, [130])):
        tokens = range(window.committed - window.new, window.committed)
        assert {schedule.window_of(token) for token in tokens} == {index}
        assert schedule.boundary_after(tokens[0]) >= window.committed


def test_capacities_hold_every_window() -> None:
    """A window larger than every prepared shape would fail in the middle of a sentence."""
    schedule = TokenSchedule(CONFIG)
    frames = FrameSchedule(VocoderConfig())
    token_sizes, frame_sizes = schedule.capacities(), frames.capacities(schedule)
    assert token_sizes[-1] == 20 + 25 + 24 + 3
    for total in range(1, 200):
        committed = emitted = 0
        while window := schedule.next_window(committed, total, finished=True):
            assert 20 + window.tokens <= token_sizes[-1]
            committed = window.committed
            finished = committed == total
            voiced = frames.next_window(emitted, 2 * committed, finished=finished)
            if voiced is not None:
                assert voiced.frames <= frame_sizes[-1]
                emitted = voiced.emit_to
        assert emitted == 2 * total


@pytest.mark.parametrize("whole_prefix", [0, 40, 60, 104, 250])
def test_a_short_prefix_is_seen_whole(whole_prefix: int) -> None:
    """Early windows see everything, later ones a bounded context; both fit the prepared sizes and
    the longest window that the flow's tables are made for.
    """
    config = replace(CONFIG, whole_prefix_tokens=whole_prefix)
    schedule, committed = TokenSchedule(config), 0
    assert schedule.capacities()[-1] <= config.max_window_tokens
    while committed < 400:
        window = schedule.next_window(committed, 403, finished=True)
        assert window is not None
        sees_all = window.committed <= whole_prefix or committed <= config.context_tokens
        assert window.context == (committed if sees_all else config.context_tokens)
        assert config.max_prompt_tokens + window.tokens <= config.max_window_tokens
        committed = window.committed


def test_vocoder_lags_by_its_right_context() -> None:
    """8 frames behind at first, then 12; to the very end when nothing more comes."""
    schedule = FrameSchedule(VocoderConfig())
    assert schedule.next_window(0, 8, finished=False) is None
    assert schedule.next_window(0, 16, finished=False) == FrameWindow(0, 16, 0, 8)
    assert schedule.next_window(8, 32, finished=False) == FrameWindow(0, 32, 8, 20)
    assert schedule.next_window(52, 112, finished=False) == FrameWindow(36, 76, 52, 100)
    assert schedule.next_window(100, 120, finished=True) == FrameWindow(84, 36, 100, 120)
    assert schedule.next_window(120, 120, finished=True) is None


@given(committed=st.integers(0, 3000), speed=st.floats(0.5, 2.0))
def test_frames_at_a_speed_lie_within_the_mel(committed: int, speed: float) -> None:
    """One more would be made of a frame that is not there yet, one less would come late."""
    frames = frames_at(committed, speed=speed)
    assert frames_at(committed, speed=1.0) == committed
    assert frames <= frames_at(committed + 1, speed=speed)
    if committed:
        assert int((frames - 1) * speed) < committed <= int(frames * speed)


def test_what_does_not_fit_a_window_comes_in_several() -> None:
    """Slow speech has more frames than a window holds: none is lost, none said twice."""
    schedule = FrameSchedule(VocoderConfig())
    for total in range(1, 400, 7):
        emitted = 0
        while window := schedule.next_window(emitted, total, finished=True, most=76):
            assert (window.emit_from, window.frames <= 76) == (emitted, True)
            assert window.emit_to <= window.first + window.frames
            emitted = window.emit_to
        assert emitted == total
