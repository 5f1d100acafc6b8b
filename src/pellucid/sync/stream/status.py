"""What a node tells of itself at one moment."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BoxStatus", "Status"]


@dataclass(frozen=True)
class BoxStatus:
    """One box, as this one sees it.

    Attributes:
        box: its number.
        state: alive, suspected, dead or outside.
        rate: samples/s it trains on.
        samples: that it has trained on.
        member: whether it is in the view.
    """

    box: int
    state: str
    rate: float
    samples: int
    member: bool


@dataclass(frozen=True)
class Status:
    """See the module.

    Attributes:
        boxes: all that were heard of, in order.
        view: number of the view; 0 without one.
        steward: the box that deals batches and decides who takes part.
        leader: the box whose prints and files the user sees.
        waiting: why this box does not take part; empty if it does.
        staleness: deltas that owners accept between two exchanges of a chunk, on average.
        cycle: seconds between two exchanges of a chunk.
        owned: chunks this box owns.
        accepted: deltas it has accepted.
        bytes_out: of payloads sent.
        bytes_in: of payloads received.
    """

    boxes: tuple[BoxStatus, ...]
    view: int
    steward: int | None
    leader: int | None
    waiting: str
    staleness: float
    cycle: float
    owned: int
    accepted: int
    bytes_out: int
    bytes_in: int
