"""A listening socket and a name in; found by Home Assistant in the local network, until the end.

Multicast DNS by python-zeroconf (extra `compat`).
"""

import contextlib
import importlib.util
import ipaddress
import socket
from collections.abc import AsyncIterator

from daemon.config import ConfigError

SERVICE_TYPE = "_wyoming._tcp.local."
_ELSEWHERE = ("192.0.2.1", 9)
"""An address of no host (RFC 5737): connecting a datagram socket to it sends nothing, but shows
which of this machine's addresses others would see."""


@contextlib.asynccontextmanager
async def announced(listener: socket.socket, *, name: str) -> AsyncIterator[None]:
    if importlib.util.find_spec("zeroconf") is None:
        raise ConfigError("wyoming_zeroconf needs the package zeroconf: make compat")
    from zeroconf import IPVersion
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    host, port = listener.getsockname()[:2]
    service = AsyncServiceInfo(
        SERVICE_TYPE,
        f"{name}.{SERVICE_TYPE}",
        parsed_addresses=[_reachable(host)],
        port=port,
        # By default it is a host of its own: the name of this machine brings along what others
        # announce of it, such as addresses that only its containers reach.
    )
    zeroconf = AsyncZeroconf(ip_version=IPVersion.V4Only)
    try:
        await zeroconf.async_register_service(service)
        yield
        await zeroconf.async_unregister_service(service)
    finally:
        await zeroconf.async_close()


def _reachable(host: str) -> str:
    if not ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError as error:
            raise ConfigError(f"wyoming_zeroconf: this machine has no network: {error}") from error
        return str(probe.getsockname()[0])
