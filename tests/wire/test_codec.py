"""Codes: bounded errors, exact residues, nothing that is not finite."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pellucid.errors import RemoteProtocolError
from pellucid.wire.codec import TILE, Bfloat16, Codec, Float32, Int8, codec

CODECS = [Int8(256), Int8(300), Int8(4096), Bfloat16(), Float32()]
IDS = [f"{type(c).__name__}{getattr(c, 'block', '')}" for c in CODECS]
COUNTS = [0, 1, 2, 255, 256, 257, 4095, 4097, 10_001, TILE, TILE + 1, 2 * TILE + 333]

every_codec = pytest.mark.parametrize("code", CODECS, ids=IDS)


def values(count: int, seed: int, exponents: float = 3) -> NDArray[np.float32]:
    """Of many magnitudes, with zeros among them."""
    rng = np.random.default_rng(seed)
    sizes = 10 ** rng.uniform(-exponents, exponents, count)
    out: NDArray[np.float32] = (rng.standard_normal(count) * sizes).astype(np.float32)
    out[rng.random(count) < 0.1] = 0
    return out


@every_codec
@pytest.mark.parametrize("count", COUNTS)
def test_what_is_sent_and_what_stays_are_the_delta_exactly(code: Codec, count: int) -> None:
    delta = values(count, seed=count)
    residue = delta.copy()
    message = code.encode_residue(residue)
    sent = code.decode(message, count)

    assert len(message) == code.size(count)
    assert sent.astype(np.float64) + residue.astype(np.float64) == pytest.approx(
        delta.astype(np.float64), rel=0, abs=0
    )
    assert bytes(code.encode(delta)) == bytes(message)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 2000),
    seed=st.integers(0, 2**32),
    exponents=st.floats(0, 30),
    block=st.integers(256, 4096),
)
def test_int8_is_off_by_half_a_scale_at_most(
    count: int, seed: int, exponents: float, block: int
) -> None:
    delta = values(count, seed, exponents)
    code = Int8(block)
    residue = delta.copy()
    sent = code.decode(code.encode_residue(residue), count).astype(np.float64)

    for begin in range(0, count, block):
        part = slice(begin, begin + block)
        scale = np.abs(delta[part]).max() / 127
        # float32 rounds a quotient of up to 127, and the product, by up to 127 * 2**-24 of a scale
        half = max(scale / 2 * (1 + 2**-15), 1e-30)
        assert np.abs(sent[part] - delta[part]).max() <= half
    assert (sent + residue == delta).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=300))
def test_residues_are_exact_for_any_values(numbers: list[float]) -> None:
    delta = np.array(numbers, np.float32)
    for code in (Int8(256), Bfloat16(), Float32()):
        residue = delta.copy()
        sent = code.decode(code.encode_residue(residue), len(delta)).astype(np.float64)
        assert (sent + residue == delta).all()


@every_codec
@pytest.mark.parametrize("count", COUNTS)
def test_a_difference_is_added_wherever_it_belongs(code: Codec, count: int) -> None:
    now, believed, unacked, held = (values(count, seed) for seed in range(4))
    before = [believed.copy(), unacked.copy(), held.copy(), now.copy()]
    message = code.encode_difference(now, believed, [unacked])
    sent = code.decode(message, count)

    assert (sent == code.decode(code.encode(now - before[0]), count)).all()
    assert (believed == before[0] + sent).all()
    assert (unacked == before[1] + sent).all()
    assert (now == before[3]).all()
    code.add(message, [held], 0.25)
    assert (held == before[2] + np.float32(0.25) * sent).all()


@every_codec
def test_sending_again_and_again_says_everything(code: Codec) -> None:
    now = values(5000, seed=1, exponents=1)
    believed = np.zeros_like(now)
    for _ in range(8):
        code.encode_difference(now, believed)
    assert np.abs(now - believed).max() <= 2e-7 * np.abs(now).max()


@every_codec
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 3000, 4999])
def test_what_is_not_finite_is_held_back_and_spoils_nothing(
    code: Codec, bad: float, where: int
) -> None:
    code.held_back = 0
    delta = values(5000, seed=2)
    delta[where] = bad
    residue = delta.copy()
    sent = code.decode(code.encode_residue(residue), len(delta))

    assert code.held_back == 1
    assert np.isfinite(sent).all()
    assert sent[where] == 0
    assert np.count_nonzero(sent) > 100  # what is in other blocks goes
    fit = np.isfinite(delta)
    assert (sent.astype(np.float64) + residue == delta)[fit].all()
    assert not np.isfinite(residue[where])


def test_bfloat16_rounds_to_nearest_even() -> None:
    torch = pytest.importorskip("torch")
    delta = values(100_000, seed=3, exponents=20)
    sent = Bfloat16().decode(Bfloat16().encode(delta), len(delta))
    assert (sent == torch.from_numpy(delta).bfloat16().float().numpy()).all()


@every_codec
@pytest.mark.parametrize("change", [-1, 1, 4])
def test_a_message_of_another_length_is_refused(code: Codec, change: int) -> None:
    with pytest.raises(RemoteProtocolError, match="1,000 values in") as caught:
        code.decode(bytes(code.size(1000) + change), 1000)
    assert caught.value.rule == "code"


@pytest.mark.parametrize("code", [Int8(256), Bfloat16(), Float32()])
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800000, 0xFF800000])
def test_a_message_that_is_not_finite_is_refused_and_nothing_is_added(
    code: Codec, bits: int
) -> None:
    message = bytearray(code.size(1000))
    unit = 2 if isinstance(code, Bfloat16) else 4
    message[4 * unit : 5 * unit] = bits.to_bytes(4, "little")[4 - unit :]
    if isinstance(code, Int8):
        message[:4] = bits.to_bytes(4, "little")
    target = np.ones(1000, np.float32)
    with pytest.raises(RemoteProtocolError, match="not finite"):
        code.add(message, [target])
    assert (target == 1).all()


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 600))
def test_any_bytes_are_values_or_refused(data: bytes, count: int) -> None:
    for code in (Int8(256), Bfloat16(), Float32()):
        with contextlib.suppress(RemoteProtocolError):
            assert np.isfinite(code.decode(data, count)).all()


def test_codecs_have_names() -> None:
    assert [type(codec(name)) for name in ("int8", "bf16", "fp32")] == [Int8, Bfloat16, Float32]
    with pytest.raises(ValueError, match="256 to 4096"):
        Int8(255)
