"""Limits and a command line in; that command in this process's place, unable to exceed them.

    python -m daemon.cloned.confined --memory-mb N --file-mb N -- COMMAND …

A process of its own sets them, because a daemon with threads must run no Python between fork and
exec. Its processor time is limited by whoever gives it work.
"""

import argparse
import os
import resource

_MB = 2**20
_NICENESS = 10
"""Speech goes first."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a command within limits.")
    parser.add_argument("--memory-mb", type=int, required=True)
    parser.add_argument("--file-mb", type=int, required=True)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    for kind, limit in (
        (resource.RLIMIT_AS, arguments.memory_mb * _MB),
        (resource.RLIMIT_FSIZE, arguments.file_mb * _MB),
        (resource.RLIMIT_CORE, 0),  # it would hold somebody's voice
    ):
        _, most = resource.getrlimit(kind)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (limit, limit))
    os.nice(_NICENESS)
    os.execvp(arguments.command[0], arguments.command)


if __name__ == "__main__":
    main()
