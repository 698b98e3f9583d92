"""Names of official checkpoints in, their files fetched and verified, their folders out.

    python -m chatterbox.hub turbo

For whoever wants them before the daemon starts, in a container's image, or on another machine.
"""

import argparse
import logging
import sys

from huggingface_hub import constants

from chatterbox.hub.checkout import checkout, missing_bytes
from chatterbox.hub.pins import HubError, pinned_models


def _listed() -> str:
    return "\n".join(
        f"{name:16} {model.num_bytes / 1e9:5.2f} GB, {missing_bytes(name) / 1e9:5.2f} to fetch"
        f"  {model}"
        for name, model in pinned_models().items()
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m chatterbox.hub",
        description="Fetch official checkpoints, verify every file, and print their folders.",
        epilog=f"They are kept in {constants.HF_HUB_CACHE} (HF_HOME names another place). What was"
        " interrupted goes on where it was.",
    )
    parser.add_argument(
        "name",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(pinned_models())}; without any, they are listed",
    )
    parser.add_argument("--offline", action="store_true", help="verify only, fetch nothing")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.name if name not in pinned_models()]
    if unknown:
        parser.error(f"no {unknown[0]}; there are {', '.join(pinned_models())}")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    # Of the library, only what goes wrong: it logs each request.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    if not arguments.name:
        sys.stdout.write(_listed() + "\n")
    try:
        for name in arguments.name:
            sys.stdout.write(f"{checkout(name, offline=arguments.offline)}\n")
    except (HubError, OSError) as error:
        sys.stderr.write(f"python -m chatterbox.hub: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the next run goes on from here\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
