"""Samples in, an Ogg stream of Opus packets out (RFC 7845), a page for every few packets.

Written here because Opus is to need no codec library but libopus, and the libraries that write Ogg
bring all of FFmpeg.
"""

import struct
import zlib
from collections.abc import Sequence

from chatterbox.api import SAMPLE_RATE
from daemon.formats.stream import Samples, StreamEncoder
from daemon.opus import BITRATE_DEFAULT, PACKET_SAMPLES, EncodedPacket, OpusEncoder
from daemon.wire.protocol import PRE_SKIP_48K

_SCALE = 48_000 // SAMPLE_RATE
"""Positions in an Ogg stream of Opus count samples at 48 kHz, whatever the audio's own rate is."""
_VENDOR = b"chatterboxd"
_SERIAL = 1
_FIRST_PAGE, _LAST_PAGE = 2, 4
_MOST_PACKETS = 10
"""On one page: each fits into the page's table, and a listener need not wait for many."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class OggOpusStream(StreamEncoder):
    is_costly = True

    def __init__(self, *, bitrate: int = BITRATE_DEFAULT) -> None:
        self._encoder = OpusEncoder(bitrate=bitrate)
        self._num_pages = 0
        self._num_samples = 0
        self._num_packets = 0  # on pages so far
        self._waiting: list[bytes] = []

    def begin(self) -> bytes:
        head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, PRE_SKIP_48K, SAMPLE_RATE, 0, 0)
        tags = struct.pack("<8sI", b"OpusTags", len(_VENDOR)) + _VENDOR + struct.pack("<I", 0)
        return self._page([head], position=0, kind=_FIRST_PAGE) + self._page([tags], position=0)

    def encode(self, samples: Samples) -> bytes:
        self._take(self._encoder.encode(samples))
        return self._full_pages()

    def finish(self) -> bytes:
        """The last page's position is where the audio ends: players drop what lies behind it."""
        self._take(self._encoder.finish())
        pages = self._full_pages()
        position = PRE_SKIP_48K + self._num_samples * _SCALE
        return pages + self._page(self._waiting, position=position, kind=_LAST_PAGE)

    def _take(self, packets: Sequence[EncodedPacket]) -> None:
        self._num_samples += sum(packet.num_samples for packet in packets)
        self._waiting += [packet.payload for packet in packets]

    def _full_pages(self) -> bytes:
        """All but the last packet: the page that ends the stream needs one."""
        pages = []
        while len(self._waiting) > 1:
            num_packets = min(_MOST_PACKETS, len(self._waiting) - 1)
            packets = self._waiting[:num_packets]
            del self._waiting[:num_packets]
            self._num_packets += num_packets
            position = self._num_packets * PACKET_SAMPLES * _SCALE
            pages.append(self._page(packets, position=position))
        return b"".join(pages)

    def _page(self, packets: Sequence[bytes], *, position: int, kind: int = 0) -> bytes:
        """Lacing: a packet's length in bytes of 255 and one smaller byte that ends it."""
        lacing = b"".join(
            b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets
        )
        head = struct.pack("<4sBBQII", b"OggS", 0, kind, position, _SERIAL, self._num_pages)
        tail = bytes([len(lacing)]) + lacing + b"".join(packets)
        self._num_pages += 1
        return head + struct.pack("<I", _checksum(head + bytes(4) + tail)) + tail


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32 is zlib's with every byte and the result read backwards, and no inversions."""
    backwards = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{backwards:032b}"[::-1], 2)
