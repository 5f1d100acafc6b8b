"""Every exception pellucid raises on purpose.

PellucidError                  base: the message names object, cause and remedy
├── SettingsError              a flag, variable or file asks for something that cannot be
├── LaunchError                a worker could not be started
├── ExchangeError              workers could not exchange values
│   ├── DivergenceError        the workers' copies of the script took different paths
│   └── StoppedError           the run is being stopped; raised to unwind a waiting worker
├── LayoutError                a model cannot lie in flat arrays, or is another than elsewhere
└── UnsupportedError           the script uses something the mode cannot work with
"""

from __future__ import annotations

__all__ = [
    "DivergenceError",
    "ExchangeError",
    "LaunchError",
    "LayoutError",
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


class LayoutError(PellucidError):
    """A model cannot lie in flat arrays, or workers that share one have different models."""


class UnsupportedError(PellucidError):
    """The script uses something that the mode cannot work with."""
