"""Speech from a program without an event loop.

python examples/blocking.py "Good morning."
"""

import sys

from chatterboxd_client import BlockingSpeechClient

URL = "ws://127.0.0.1:8765"


def main() -> None:
    with BlockingSpeechClient(sys.argv[2] if len(sys.argv) > 2 else URL) as client:
        num_samples = 0
        for audio in client.say(sys.argv[1]):
            num_samples += audio.samples.size  # 16-bit samples: to a sound card, a file, a call
        sys.stdout.write(f"{num_samples / client.begin.sample_rate:.2f} s of speech\n")


if __name__ == "__main__":
    main()
