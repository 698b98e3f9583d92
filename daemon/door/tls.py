"""Two PEM files in, an `SSLContext` out whose certificate can be exchanged while it serves."""

import ssl
from pathlib import Path

from daemon.config import ConfigError


class Certificate:
    """The context's chain is loaded again in place: connections that exist keep theirs."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.reload()

    def reload(self) -> None:
        """Raises `ConfigError`; the certificate is then the one of before."""
        try:
            # A first look on a context of its own: half a pair must not reach the one in use.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._chain, self._key)
            self.context.load_cert_chain(self._chain, self._key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{self._chain}, {self._key}: {error}") from error
