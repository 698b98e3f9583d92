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
