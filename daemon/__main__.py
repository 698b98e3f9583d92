"""Command line in, exit status out: the only file that chooses and builds an engine."""

import logging
import os
import sys
import time
from collections.abc import Callable

import uvloop

from chatterbox.api import SAMPLE_RATE, SpeechEngine
from daemon.config import Config, ConfigError
from daemon.door.tokens import TokenBook
from daemon.server import Daemon
from daemon.settings import parse_arguments, printed
from daemon.watching.log import set_up


def engine_builder(config: Config) -> Callable[[], SpeechEngine]:
    """Imports happen inside, on the engine's thread: torch takes seconds, and sine needs none."""

    def build_unmarked() -> SpeechEngine:
        if config.engine == "sine":
            from chatterbox.sine import SineEngine

            return SineEngine(
                num_slots=config.num_slots,
                samples_per_step=config.sine_step_ms * SAMPLE_RATE // 1000,
                cost_s=config.sine_cost_ms / 1000,
            )
        from chatterbox.estimate import require_slots_fit
        from chatterbox.loading import load_engine

        require_slots_fit(
            config.model,
            num_slots=config.num_slots,
            dtype=config.dtype,
            offline=config.offline,
            extra_voices=config.voices,
        )
        return load_engine(
            config.model,
            offline=config.offline,
            extra_voices=config.voices,
            num_slots=config.num_slots,
            threads=config.threads,
            deterministic=config.deterministic,
            dtype=config.dtype,
            eager=config.eager,
        )

    def build() -> SpeechEngine:
        if not _marks_speech(config):
            return build_unmarked()
        from chatterbox.watermark import load_watermark, require_watermark

        require_watermark()  # before a model is loaded in vain
        return load_watermark(
            build_unmarked(),
            threads=config.threads,
            deterministic=config.deterministic,
            eager=config.eager,
        )

    return build


def _marks_speech(config: Config) -> bool:
    """Everybody's or somebody's."""
    return config.watermark or TokenBook.load(config, clock=time.time).has_marked_bearer


def _dry_run(config: Config) -> int:
    """0 if everything is there and fits."""
    if _marks_speech(config):
        from chatterbox.watermark import require_watermark

        sys.stdout.write(f"watermark   {require_watermark()}\n")
    if config.engine == "sine":
        sys.stdout.write("model       tones; nothing is loaded\n")
        return 0
    from chatterbox.estimate import estimate

    found = estimate(
        config.model,
        num_slots=config.num_slots,
        dtype=config.dtype,
        offline=True,  # a question, not gigabytes
        extra_voices=config.voices,
    )
    sys.stdout.write(f"{found}\n")
    return 0 if found.fits else 1


async def _run(config: Config) -> int:
    return await Daemon(config, engine_builder(config), environ=os.environ).run()


def main() -> int:
    settings = parse_arguments(sys.argv[1:])
    config = settings.config
    if settings.print_config:
        sys.stdout.write(printed(settings))
        return 0
    set_up(level=config.log_level, log_format=config.log_format, environ=os.environ)
    try:
        return _dry_run(config) if settings.dry_run else uvloop.run(_run(config))
    except KeyboardInterrupt:
        return 130  # before the loop could take over the signal
    except ConfigError as error:
        sys.stderr.write(f"python -m daemon: {error}\n")
        return 2
    except (OSError, ValueError, ImportError) as error:
        logging.getLogger("daemon").debug("could not start", exc_info=True)
        sys.stderr.write(f"python -m daemon: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
