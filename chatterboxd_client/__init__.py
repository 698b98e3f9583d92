"""Text in, live speech out, through a chatterboxd daemon: the client as a library.

Of the daemon's files it shares the wire protocol and the errors; it knows nothing of its inside.
"""

from chatterboxd_client.blocking import BlockingSpeaking, BlockingSpeechClient
from chatterboxd_client.context import ClientContext, ConnectionLost, ContextEvent, DaemonError
from chatterboxd_client.listening import Audio, BrokenStream, Timings
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.speaking import NoPlayer, Speaking, Spoken, connected, say

__all__ = [
    "Audio",
    "BlockingSpeaking",
    "BlockingSpeechClient",
    "BrokenStream",
    "ClientContext",
    "ConnectionLost",
    "ContextEvent",
    "DaemonError",
    "NoPlayer",
    "Speaking",
    "SpeechClient",
    "Spoken",
    "Timings",
    "connected",
    "say",
]
