"""`python -m chatterbox.training STAGE`: argv in, one stage (or all) of the bundled voice's
training out.
"""

import argparse
import os
from pathlib import Path

DEFAULT_WORK = Path("build/training")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m chatterbox.training", description=__doc__)
    made.add_argument(
        "stage", choices=("data", "vocoder", "tokens", "decoder", "t3", "export", "all")
    )
    made.add_argument(
        "--work", type=Path, default=DEFAULT_WORK, help="where data and training state live"
    )
    made.add_argument(
        "--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder of data.noun, …"
    )
    made.add_argument(
        "--config", type=Path, default=Path("chatterbox/checkpoints/tiny/config.json")
    )
    made.add_argument(
        "--out", type=Path, default=Path("chatterbox/checkpoints/tiny"), help="where export writes"
    )
    made.add_argument(
        "--start",
        type=Path,
        metavar="CHECKPOINT",
        help="folder whose weights a stage starts from if it has no state of its own yet",
    )
    made.add_argument(
        "--minutes", type=float, help="budget of the stage; each stage has its own default"
    )
    made.add_argument("--steps", type=int, help="budget in steps instead of minutes")
    made.add_argument("--batch", type=int, help="rows per step; each stage has its own default")
    made.add_argument("--texts", type=int, default=50_000, help="how many texts the corpus has")
    made.add_argument("--workers", type=int, default=1, help="processes that speak the corpus")
    made.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    made.add_argument("--device", default="cpu")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument(
        "--small", action="store_true", help="a run of seconds that proves the machinery only"
    )
    return made


def main() -> None:
    """Run the stage."""
    arguments = parser().parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(arguments.threads))
    from chatterbox.training.stages import run_stages

    run_stages(arguments)


if __name__ == "__main__":
    main()
