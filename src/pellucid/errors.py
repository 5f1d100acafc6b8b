"""Every exception pellucid raises on purpose.

PellucidError                  base: the message names object, cause and remedy
├── SettingsError              a flag, variable or file asks for something that cannot be
├── LaunchError                a worker could not be started
├── ExchangeError              workers could not exchange values
│   ├── DivergenceError        the workers' copies of the script took different paths
│   └── StoppedError           the run is being stopped; raised to unwind a waiting worker
└── UnsupportedError           the script uses something exact mode cannot split or run whole
"""

from __future__ import annotations

__all__ = [
    "DivergenceError",
    "ExchangeError",
    "LaunchError",
    "PellucidError",
    "SettingsError",
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


class StoppedError(ExchangeError):
    """The run is being stopped; unwinds a worker that waits for others."""


class UnsupportedError(PellucidError):
    """The script uses something that exact mode can neither split nor run whole."""
