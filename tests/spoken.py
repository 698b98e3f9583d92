"""An engine and one segment in, all of its samples out: what benchmarks judge."""

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import PcmChunk, Segment, SegmentFailed, SlotIndex, SpeechEngine

SLOT = SlotIndex(0)


def spoken(engine: SpeechEngine, segment: Segment) -> NDArray[np.float32]:
    """Alone in the first slot, which is free afterwards. Raises `RuntimeError` if it fails."""
    engine.start(SLOT, segment)
    parts: list[NDArray[np.float32]] = []
    is_over = False
    while not is_over:
        for event in engine.step([SLOT]):
            if isinstance(event, PcmChunk):
                parts.append(event.samples)
                is_over = event.is_last
            elif isinstance(event, SegmentFailed):
                raise RuntimeError(f"{segment.text!r}: {event.message}")
    engine.release(SLOT)
    return np.concatenate(parts)
