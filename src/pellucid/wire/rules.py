"""The rules of the protocol, by the names that errors give them; docs/protocol.md explains each."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Rule"]


class Rule(StrEnum):
    """What was broken. The value is the name users see, and look up."""

    GREETING = "greeting"  # a connection begins with a greeting of this protocol
    VERSION = "version"  # both speak the same version of it
    ECHO = "echo"  # a greeting is fresh, not ours sent back
    PROOF = "proof"  # who takes part proves that it knows the run's secret
    HELLO = "hello"  # a hello names box, run and versions, well-formed
    TORCH = "torch"  # both have the same major version of torch
    RUN = "run"  # both belong to the same run
    NUMBER = "number"  # no two boxes have the same number
    ITSELF = "itself"  # a box does not talk to itself
    KIND = "kind"  # only known kinds of frames, and only when the state allows them
    SIZE = "size"  # no body longer than its kind allows
    PIECES = "pieces"  # pieces follow a start, one frame at a time, and no more than it said
    BODY = "body"  # what a message says is well-formed, within ranges, and makes sense
    CODE = "code"  # coded values have the length they must have, and are finite
    CLOSE = "close"  # a close says why, well-formed
    TIME = "time"  # a connection is open within a few seconds
    END = "end"  # a connection does not end without a close
    LINK = "link"  # the network itself failed
    LIMIT = "limit"  # no more than so many unproven connections
