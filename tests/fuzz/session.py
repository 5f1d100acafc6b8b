"""A fuzzer for the session, guided by coverage: `pip install atheris`, then

    python tests/fuzz/session.py [corpus] [-max_total_time=60]

It carries any bytes into a session in any state, cut anywhere. Nothing may be raised, and a session
that ends must say so once, and blame somebody. tests/wire/test_session.py asks the same of bytes
that hypothesis draws.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["pellucid"]):
    from pellucid.wire.session import Role, Session, State

from tests.wire.pairs import CHUNK, CONTROL, said, session
from tests.wire.test_session import STATES, at, check_invariants


def mended(here: Session, data: bytes) -> bytes:
    """What a peer that knows the secret would say, where bytes alone could never guess it."""
    proof = b"\x02\0\0\0 " + here._proof(here.role.other)
    return data.replace(b"PROOF", proof)


def one(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    role = provider.PickValueInList(list(Role))
    state = provider.PickValueInList(STATES)
    here = at(state, role) if state is not State.GREETING else session(role)
    if here.state is State.OPEN:
        here.send(CHUNK, [b"something"])
        here.send(CONTROL, [b"urgent"])
    step = provider.ConsumeIntInRange(1, 300)
    words = mended(here, provider.ConsumeBytes(10_000))
    events = [e for n in range(0, len(words), step) for e in here.receive(words[n : n + step])]
    check_invariants(here, events)
    said(here)
    here.ended()
    if not here.is_closed:
        raise AssertionError


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
