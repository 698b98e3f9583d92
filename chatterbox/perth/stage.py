"""Blocks of several segments in, what marks them on its way to the host out: the device's side of
the watermark.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from chatterbox.api import StageStats
from chatterbox.device.backend import Backend, Mark
from chatterbox.device.captured_stage import CapturedStage, Rung
from chatterbox.device.transfers import Pending, Readback, SampleStaging, Staging
from chatterbox.ladder import Ladder, batches_of
from chatterbox.perth.blocks import BLOCK_HOPS, FIRST_BLOCKS_HOPS, Block
from chatterbox.perth.embedder import CONTEXT, Embedder
from chatterbox.perth.spectrum import HOP

WIDEST_BATCH = 16
_ROUNDS = 3
"""One being filled, one being read, and one to spare."""


class EmbedStep(nn.Module):
    """The embedder and the memory from which it reads its windows."""

    samples: Tensor  # [rows * window]

    def __init__(self, embedder: Embedder, *, rows: int) -> None:
        super().__init__()
        self.embedder = embedder
        most = rows * (2 * CONTEXT + BLOCK_HOPS * HOP)
        self.register_buffer("samples", torch.zeros(most), persistent=False)

    def forward(self, plan: Tensor, hops: int) -> Tensor:
        """`plan` [rows, 2]: the frames that are present. → [rows, hops * HOP]"""
        rows, length = plan.shape[0], 2 * CONTEXT + hops * HOP
        added: Tensor = self.embedder(self.samples[: rows * length].view(rows, length), plan)
        return added


class MarkStage:
    """At most `blocks_per_round` blocks a round; results of the round before the last are lost."""

    def __init__(
        self,
        embedder: Embedder,
        *,
        blocks_per_round: int,
        device: torch.device,
        backend: Backend,
        deterministic: bool,
    ) -> None:
        widest = min(blocks_per_round, WIDEST_BATCH)
        sizes = batches_of(widest) if backend.few_sizes else range(1, widest + 1)
        rows = Ladder(sizes, pinned=deterministic)
        self.blocks_per_round = blocks_per_round
        self.step = EmbedStep(embedder, rows=widest).to(device)
        self._backend = backend
        self._samples = SampleStaging(self.step.samples, backend=backend)
        self._plans = Staging(2 * widest, backend=backend, device=device)
        block = BLOCK_HOPS * HOP
        # A call is padded to a rung, and each size of block makes calls of its own.
        self._results = Readback(
            (blocks_per_round + 2 * widest) * block, torch.float32, backend=backend, depth=_ROUNDS
        )
        self._times: deque[tuple[Mark, Mark]] = deque(maxlen=4096)
        self.captured = CapturedStage(
            "watermark",
            self.step.forward,
            rows=rows,
            sizes=Ladder([FIRST_BLOCKS_HOPS, BLOCK_HOPS]),
            width=2,
            out=(block, torch.float32),
            backend=backend,
            device=device,
            state=self.step,
        )

    def prepare(self) -> Iterator[Rung]:
        """Capture every size, one at a time."""
        return self.captured.prepare()

    def launch(self, blocks: Sequence[Block]) -> list[tuple[Pending, list[int]]]:
        """A round: results, each with the places of its blocks in `blocks`."""
        assert len(blocks) <= self.blocks_per_round, "a round holds no more"
        self._results.next_round()
        launched = []
        for hops in (FIRST_BLOCKS_HOPS, BLOCK_HOPS):
            places = [place for place, block in enumerate(blocks) if block.hops == hops]
            most = self.captured.rows.sizes[-1]
            for start in range(0, len(places), most):
                group = places[start : start + most]
                launched.append((self._run([blocks[place] for place in group], hops), group))
        return launched

    def _run(self, blocks: Sequence[Block], hops: int) -> Pending:
        """Padded with rows that have no frame."""
        rows = self.captured.rows.fit(len(blocks))
        self._samples.send([block.window for block in blocks])
        nothing = [(0, 0)] * (rows - len(blocks))
        (plan,) = self._plans.send([[block.present for block in blocks] + nothing])
        start = self._backend.mark()
        result = self.captured.run(plan, hops)
        self._times.append((start, self._backend.mark()))
        assert result is not None, "the stage has a result"
        return self._results.fetch(result[: len(blocks)])

    def forget_counts(self) -> None:
        """Count from here on: what came before was the warm-up."""
        self._times.clear()
        self.captured.forget_counts()

    def take_stats(self) -> StageStats:
        """Since the last call; times of runs that are still on their way come the next time."""
        seconds = []
        while self._times and self._times[0][1].is_over():
            seconds.append(self._backend.seconds_between(*self._times.popleft()))
        replays, eager_runs = self.captured.take_counts()
        return StageStats(
            name=self.captured.name,
            seconds=seconds,
            replays={(rung.rows, rung.size): count for rung, count in replays.items()},
            eager_runs=eager_runs,
        )
