"""How much is needed → the smallest prepared size that holds it. Captured steps exist for these
sizes only.
"""

from collections.abc import Iterable


class Ladder:
    """Rising sizes; `pinned` always answers with the largest, so that neighbours cannot change a
    shape.
    """

    def __init__(self, sizes: Iterable[int], *, pinned: bool = False) -> None:
        self.sizes = tuple(sorted(set(sizes)))
        if not self.sizes:
            raise ValueError("a ladder has at least one size")
        if pinned:
            self.sizes = self.sizes[-1:]

    def fit(self, needed: int) -> int:
        """The smallest size ≥ `needed`; raises ValueError beyond the largest."""
        for size in self.sizes:
            if size >= needed:
                return size
        raise ValueError(f"{needed} is beyond the largest prepared size, {self.sizes[-1]}")


def steps_of(step: int, longest: int) -> Ladder:
    """A ladder of the multiples of `step` up to and including `longest`."""
    return Ladder([*range(step, longest, step), longest])


def batches_of(longest: int) -> list[int]:
    """Batch sizes up to `longest`, at most half as large again as needed: 1, 2, 4, 6, 8, 12, …"""
    sizes = {1, 2, longest}
    size = 4
    while size < longest:
        sizes |= {size, min(size * 3 // 2, longest)}
        size *= 2
    return sorted(sizes & set(range(1, longest + 1)))


def thinned(sizes: Iterable[int], *, ratio: float) -> list[int]:
    """The smallest and the largest of `sizes`, and as few between as keep each step below `ratio`
    where the given sizes allow it: fewer shapes to capture, for more padding.
    """
    rising = sorted(set(sizes))
    kept = [rising[0]]
    for index in range(1, len(rising)):
        if index == len(rising) - 1 or rising[index + 1] > kept[-1] * ratio:
            kept.append(rising[index])
    return kept
