"""A box that wants to join: from an address and the secret to a place in the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pellucid.errors import LaunchError, LinkError
from pellucid.launch.bundle import Bundle, is_inner, unpack
from pellucid.launch.channel import Channel
from pellucid.launch.rendezvous import (
    Admitted,
    Begin,
    Elsewhere,
    Knock,
    Plan,
    Ready,
    Refused,
    Waiting,
)
from pellucid.settings import Address, Peer
from pellucid.transport.identity import Identity
from pellucid.wire.session import Hello

__all__ = ["Admission", "Visitor"]

AGAIN_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 30.0  # for a death of who lets boxes in to be noticed
FOREVER: Final = 1e9
SIGN_SECONDS: Final = 15.0


@dataclass(frozen=True)
class Admission:
    """What a box gets that is let in.

    Attributes:
        box: its number.
        plan: what the first box decided.
        bundle: the script's files, as they came.
        local: the address of this box that the others see.
        door: the port at which the others let boxes in.
    """

    box: int
    plan: Plan
    bundle: Bundle
    local: str
    door: int


class Visitor:
    """This box at another's door.

    Args:
        identity: what it proves itself with.
        hello: what it says of itself.
        knock: what it asks.
        say: tells the user something.
    """

    def __init__(
        self, identity: Identity, hello: Hello, knock: Knock, say: Callable[[str], object]
    ) -> None:
        self._identity = identity
        self._hello = hello
        self._knock = knock
        self._say = say
        self._channel: Channel | None = None

    def enter(self, address: Address, *, packed: Path, base: Path, limit: int) -> Admission:
        """Ask to be let in, and fetch the script.

        Args:
            address: of any box of the run.
            packed: where to keep the bundle.
            base: where script and working directory are to be; must not exist.
            limit: bytes the script's files may take.

        Raises:
            LaunchError: not let in, or the bundle is not to be trusted.
            NetworkError: there is nobody, or not one of ours.
        """
        channel, admitted = self._ask(address)
        self._channel = channel
        plan = admitted.plan
        try:
            if plan.bundle_bytes > limit:
                msg = (
                    f"the script and its files take {plan.bundle_bytes / 2**20:.1f} MiB, more than "
                    f"the {limit / 2**20:.0f} MiB that this box takes from others. If they are to "
                    "be trusted, raise --bundle-limit here, too"
                )
                raise LaunchError(msg)
            self._fetch(channel, plan.bundle_bytes, packed)
            for inner in (plan.place.prefix or ".", plan.place.folder):
                if inner != "." and not is_inner(inner):
                    msg = f"refused the other box's plan: {inner!r} would lie elsewhere"
                    raise LaunchError(msg)
            bundle = unpack(packed, base / plan.place.prefix, digest=plan.digest, limit=limit)
            (base / plan.place.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        except BaseException as error:
            channel.close(str(error))
            raise
        return Admission(admitted.box, plan, bundle, channel.local, channel.port)

    def ready(self, peer: Peer) -> None:
        """Everything is there, and listens.

        Raises:
            NetworkError: the door is gone.
        """
        self._open_channel.tell(Ready(peer))

    def begun(self, seconds: float) -> list[Peer] | None:
        """Whether the script is to start: the boxes to call then.

        Args:
            seconds: how long to wait for the answer.

        Raises:
            LaunchError: refused after all.
            NetworkError: the door is gone.
        """
        channel = self._open_channel
        match channel.hear(seconds):
            case Waiting():
                channel.tell(Waiting())
                return None
            case Begin(peers):
                channel.close()
                return peers
            case Refused(reason):
                raise LaunchError(_refused(channel.who, reason))
            case other:
                msg = f"{channel.who} said {type(other).__name__}: not let in"
                raise LaunchError(msg)

    def leave(self) -> None:
        """The user does not want to wait any more."""
        if self._channel is not None:
            self._channel.close("the user has stopped it")

    @property
    def _open_channel(self) -> Channel:
        assert self._channel is not None  # `enter` came before
        return self._channel

    def _ask(self, address: Address) -> tuple[Channel, Admitted]:
        """Knock at this door, and where it sends us."""
        began = time.monotonic()
        at = address
        while True:
            try:
                channel = Channel.dial(at, self._identity, self._hello)
            except LinkError as error:
                if at == address:
                    raise
                self._say(f"{error}. Asking {address} again")
                at = address
                time.sleep(AGAIN_SECONDS)
                continue
            channel.tell(self._knock)
            match channel.hear():
                case Admitted() as admitted:
                    return channel, admitted
                case Elsewhere(box, door) if time.monotonic() - began < PATIENCE_SECONDS:
                    channel.close()
                    if door != at:
                        self._say(f"box {box} at {door} lets boxes in")
                    at = door
                case Refused(reason):
                    channel.close()
                    raise LaunchError(_refused(at, reason))
                case other:
                    channel.close()
                    raise LaunchError(_refused(at, f"it said {type(other).__name__}"))

    @staticmethod
    def _fetch(channel: Channel, size: int, packed: Path) -> None:
        with packed.open("wb") as file:
            while size > 0:
                piece = channel.hear_piece()
                size -= len(piece)
                if size < 0:
                    msg = f"{channel.who} sent more than it had announced"
                    raise LaunchError(msg)
                file.write(piece)


def _refused(who: object, reason: str) -> str:
    return f"{who} does not let this box in: {reason}"
