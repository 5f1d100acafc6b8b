"""The two sockets of a box that listen, and what is wrong when one cannot."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
from dataclasses import dataclass

from pellucid.errors import LaunchError
from pellucid.settings import Address, Peer

__all__ = ["Site", "new_nonce", "open_site"]

WAITING = 128  # connections that may wait to be accepted


@dataclass(frozen=True)
class Site:
    """Where a box listens.

    Attributes:
        peer: the box as the others know it.
        door: the socket of its door.
        data: the socket of its worker 0.
    """

    peer: Peer
    door: socket.socket
    data: socket.socket


def new_nonce() -> int:
    """A number that no other box draws."""
    return secrets.randbits(62)


def open_site(box: int, name: str, address: Address, nonce: int, *, strict: bool = True) -> Site:
    """Listen for the others.

    Args:
        box: number of this box.
        name: its host name.
        address: of the door; the data come through the next port or, if that is taken, any.
        nonce: of this box.
        strict: whether it must be this port, rather than any when it is taken.

    Raises:
        LaunchError: it cannot be; says why and what to do.
    """
    door = _listen(address) if strict else _listen_near(address)
    at = Address(address.host, door.getsockname()[1])
    try:
        # firewalls are opened for ranges of ports: the two should lie side by side
        data = _listen_near(Address(at.host, (at.port + 1) % (1 << 16)))
    except BaseException:
        door.close()
        raise
    port = data.getsockname()[1]
    peer = Peer(box=box, nonce=nonce, name=name, data=Address(at.host, port), door=at)
    return Site(peer, door, data)


def _listen_near(address: Address) -> socket.socket:
    with contextlib.suppress(LaunchError):
        return _listen(address)
    return _listen(Address(address.host, 0))


def _listen(address: Address) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, where = found[0]
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(where)
            made.listen(WAITING)
        except BaseException:
            made.close()
            raise
    except OSError as error:
        raise LaunchError(_cannot(address, error)) from error
    return made


def _cannot(address: Address, error: OSError) -> str:
    cause, remedy = str(error.strerror or error), "See `pellucid doctor`"
    if isinstance(error, socket.gaierror):
        cause = f"{address.host!r} is no name that this box can resolve"
        remedy = f"Give a number: this box has {_own_addresses()}"
    elif error.errno == errno.EADDRNOTAVAIL:
        cause = f"{address.host} is no address of this box"
        remedy = f"It has {_own_addresses()}; 0.0.0.0 is all of them"
    elif error.errno == errno.EADDRINUSE:
        cause = f"another program of this box has taken port {address.port}"
        remedy = "End it, or take another port"
    elif error.errno in (errno.EACCES, errno.EPERM):
        cause = f"port {address.port} needs privileges"
        remedy = "Take one above 1023"
    return f"cannot listen at {address}: {cause}. {remedy}"


def _own_addresses() -> str:
    import psutil  # type: ignore[import-untyped]

    families = (socket.AF_INET, socket.AF_INET6)
    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in families and not address.address.startswith(("127.", "fe80", "::1"))
    ]
    return ", ".join(found) or "none but loopback's"
