"""As small as it gets, with the real one's way of telling its handlers what is sampled."""

from pyro.poutine.runtime import Trace, sample

__all__ = ["Trace", "sample"]
