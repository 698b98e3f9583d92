"""Command line in, exit status out: the only file that chooses and builds an engine."""

import logging
import sys
from collections.abc import Callable

import uvloop

from chatterbox.api import SAMPLE_RATE, SpeechEngine
from daemon.config import Config
from daemon.server import Daemon
from daemon.settings import parse_arguments, printed


def engine_builder(config: Config) -> Callable[[], SpeechEngine]:
    """Imports happen inside, on the engine's thread: torch takes seconds, and sine needs none."""

    def build() -> SpeechEngine:
        if config.engine == "sine":
            from chatterbox.sine import SineEngine

            return SineEngine(
                num_slots=config.num_slots,
                samples_per_step=config.sine_step_ms * SAMPLE_RATE // 1000,
                cost_s=config.sine_cost_ms / 1000,
            )
        from chatterbox.loading import load_engine

        return load_engine(
            config.model,
            num_slots=config.num_slots,
            threads=config.threads,
            deterministic=config.deterministic,
        )

    return build


async def _run(config: Config) -> int:
    return await Daemon(config, engine_builder(config)).run()


def main() -> int:
    settings = parse_arguments(sys.argv[1:])
    config = settings.config
    if settings.print_config:
        sys.stdout.write(printed(settings))
        return 0
    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if config.log_level != "debug":  # its lines on every handshake are no news
        logging.getLogger("websockets").setLevel(logging.WARNING)
    try:
        return uvloop.run(_run(config))
    except KeyboardInterrupt:
        return 130  # before the loop could take over the signal
    except (OSError, ValueError, ImportError) as error:
        logging.getLogger("daemon").debug("could not start", exc_info=True)
        sys.stderr.write(f"python -m daemon: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
