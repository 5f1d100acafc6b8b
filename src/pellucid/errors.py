"""Every exception pellucid raises on purpose.

PellucidError                  base: the message names object, cause and remedy
├── SettingsError              a flag, variable or file asks for something that cannot be
├── LaunchError                a worker could not be started
├── ExchangeError              workers could not exchange values
│   ├── DivergenceError        the workers' copies of the script took different paths
│   │   ├── DisputeError       they hold different values, and go on doing so
│   │   └── ShapeError         their parts of a batch do not fit together; all of them see that
│   └── StoppedError           the run is being stopped; raised to unwind a waiting worker
├── LayoutError                a model cannot lie in flat arrays, or is another than elsewhere
├── NetworkError               boxes could not talk to each other; `rule` names what was broken
│   ├── LocalProtocolError     this box broke a rule of the protocol
│   ├── RemoteProtocolError    the peer broke a rule of the protocol
│   ├── MismatchError          the peer keeps the rules, and is not one to work with
│   └── LinkError              the network itself: nobody answers, it broke, it ended
└── UnsupportedError           the script uses something the mode cannot work with
"""

from __future__ import annotations

__all__ = [
    "DisputeError",
    "DivergenceError",
    "ExchangeError",
    "LaunchError",
    "LayoutError",
    "LinkError",
    "LocalProtocolError",
    "MismatchError",
    "NetworkError",
    "PellucidError",
    "RemoteProtocolError",
    "SettingsError",
    "ShapeError",
    "StoppedError",
    "UnsupportedError",
]


class PellucidError(Exception):
    """Base of all errors raised on purpose; its text is meant for the user."""


class SettingsError(PellucidError):
    """A flag, an environment variable or a settings file asks for something that cannot be."""


class LaunchError(PellucidError):
    """A worker could not be started."""


class ExchangeError(PellucidError):
    """Workers could not exchange values."""


class DivergenceError(ExchangeError):
    """The workers' copies of the script took different paths, so their exchanges do not match."""


class DisputeError(DivergenceError):
    """The workers' copies hold different values of what they claim to be the same."""


class ShapeError(DivergenceError):
    """The workers' parts of a batch have not the shape of their rows; raised on all of them."""


class StoppedError(ExchangeError):
    """The run is being stopped; unwinds a worker that waits for others."""


class LayoutError(PellucidError):
    """A model cannot lie in flat arrays, or workers that share one have different models."""


class NetworkError(PellucidError):
    """Boxes could not talk to each other.

    Args:
        text: for the user.
        rule: the rule of the protocol that was broken, as docs/protocol.md names it.
    """

    def __init__(self, text: str, rule: str = "") -> None:
        super().__init__(text)
        self.rule = rule


class LocalProtocolError(NetworkError):
    """This box broke a rule of the protocol, or asked for something that would."""


class RemoteProtocolError(NetworkError):
    """The peer broke a rule of the protocol."""


class MismatchError(NetworkError):
    """Both sides keep the rules, but cannot work together: version, secret, torch, run."""


class LinkError(NetworkError):
    """The network failed: nobody answers, the connection broke, or ended without a word."""


class UnsupportedError(PellucidError):
    """The script uses something that the mode cannot work with."""
