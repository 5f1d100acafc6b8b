"""Flat parameters: where tensors lie, and that nobody who looks at them can tell."""

from __future__ import annotations

import copy
import io
import itertools
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pellucid.errors import LayoutError
from pellucid.params.flat import FlatParameters, Holder, named_tensors, private_memory
from pellucid.params.layout import Kind, Spec, chunk_elements, lay_out

DTYPES = {"float32": 4, "float64": 8, "int64": 8}


def spec(name: str, elements: int, dtype: str = "float32", kind: Kind = Kind.TRAINED) -> Spec:
    return Spec((name,), (elements,), (1,), dtype, DTYPES[dtype], kind)


SPECS = st.lists(
    st.tuples(st.integers(0, 9000), st.sampled_from(sorted(DTYPES)), st.sampled_from(list(Kind))),
    min_size=1,
    max_size=12,
)


@given(SPECS)
def test_pieces_keep_apart_and_chunks_are_of_one_kind(drawn: list[tuple[int, str, Kind]]) -> None:
    layout = lay_out([spec(f"t{k}", *facts) for k, facts in enumerate(drawn)])
    assert [p.spec.names[0] for p in layout.pieces] == [f"t{k}" for k in range(len(drawn))]
    taken: dict[int, list[tuple[int, int]]] = {}
    for piece in layout.pieces:
        array = layout.arrays[piece.array]
        end = piece.offset + piece.spec.elements
        assert array.dtype == piece.spec.dtype
        assert piece.offset * piece.spec.itemsize % 64 == 0
        assert end <= array.elements
        taken.setdefault(piece.array, []).append((piece.offset, end))
        for chunk in range(piece.offset // array.chunk, -(-end // array.chunk)):
            assert array.kind_of(chunk) == piece.spec.kind
    for spans in taken.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert all(array.elements % array.chunk == 0 for array in layout.arrays)


@pytest.mark.parametrize(
    ("total", "chunk"), [(1, 32768), (431_080, 32768), (61_000_000, 953_344), (10**9, 1 << 20)]
)
def test_chunks_are_a_64th_within_bounds(total: int, chunk: int) -> None:
    assert chunk_elements(total) == chunk


def test_fingerprints_tell_layouts_apart() -> None:
    base = [spec("a", 10), spec("b", 20)]
    others = [
        [spec("b", 10), spec("a", 20)],
        [spec("a", 20), spec("b", 10)],
        [spec("a", 10), spec("b", 20, "float64")],
        [spec("a", 10), spec("b", 20, kind=Kind.AVERAGED)],
        [spec("a", 10)],
    ]
    prints = {lay_out(specs).fingerprint() for specs in [base, *others]}
    assert len(prints) == 6
    assert lay_out(base).fingerprint() == lay_out(list(base)).fingerprint()
    there = lay_out([spec("a", 10), spec("b", 21)])
    assert lay_out(base).difference(there) == "b [20] of float32 here, b [21] of float32 there"


def net() -> nn.Module:
    torch.manual_seed(1)
    made = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))
    for parameter in made.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return made


def bound(module: nn.Module) -> FlatParameters:
    flat = FlatParameters(named_tensors(module))
    flat.bind(private_memory(flat.layout), keep=True)
    return flat


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_a_bound_model_computes_and_is_saved_as_ever() -> None:
    plain, flat = net(), net()
    bound(flat)
    x = torch.randn(5, 1, 4, 4)
    assert torch.equal(plain(x), flat(x))
    assert saved(plain.state_dict()) == saved(flat.state_dict())
    assert len(saved(plain)) == len(saved(flat))
    assert len(pickle.dumps(plain)) == len(pickle.dumps(flat))
    weight = next(flat.parameters())
    assert weight.untyped_storage().nbytes() == weight.numel() * 4
    assert weight.stride() == next(plain.parameters()).stride()


def test_what_is_written_to_a_tensor_is_in_the_array() -> None:
    module = net()
    flat = bound(module)
    assert flat.memory is not None
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(2)
    layout = flat.layout
    array = layout.arrays[0]
    assert (array.dtype, [a.dtype for a in layout.arrays]) == ("float32", ["float32", "int64"])
    trained = sum(p.numel() for p in module.parameters())
    assert int((flat.memory.arrays[0][: array.ends[Kind.TRAINED]] == 2).sum()) == trained


def test_copies_have_memory_of_their_own() -> None:
    module = net()
    flat = bound(module)
    assert flat.memory is not None
    twin = copy.deepcopy(module)
    flat.memory.arrays[0].zero_()
    assert all(bool((p == 0).all()) for p in module.parameters())
    assert all(bool((p != 0).any()) for p in twin.parameters() if p.ndim > 1)


def test_tied_tensors_are_one_piece_with_all_its_names() -> None:
    module = nn.ModuleDict({"in": nn.Embedding(7, 3), "out": nn.Linear(3, 7, bias=False)})
    module["out"].weight = module["in"].weight
    flat = bound(module)
    (piece,) = flat.layout.pieces
    assert piece.spec.names == ("in.weight", "out.weight")
    assert module["out"].weight is module["in"].weight


def test_a_frozen_parameter_has_its_place_and_gets_no_gradient() -> None:
    module = net()
    next(module.parameters()).requires_grad_(False)
    flat = bound(module)
    module(torch.randn(2, 1, 4, 4)).sum().backward()
    assert next(module.parameters()).grad is None
    assert len(flat.layout.pieces) == len(list(module.parameters())) + len(list(module.buffers()))


def test_what_the_script_replaces_is_bound_again() -> None:
    module = nn.Linear(3, 2)
    flat = bound(module)
    assert flat.memory is not None
    module.weight = nn.Parameter(torch.full((2, 3), 5.0))
    module.bias.data = torch.full((2,), 6.0)
    flat.mend()
    flat.memory.arrays[0].add_(1)
    assert module.weight.flatten().tolist() == [6.0] * 6
    assert module.bias.tolist() == [7.0, 7.0]
    module.load_state_dict({"weight": torch.zeros(2, 3), "bias": torch.ones(2)}, assign=True)
    flat.mend()
    assert flat.memory.views[0].eq(0).all()


def test_a_replacement_of_another_shape_is_refused_by_name() -> None:
    module = nn.Linear(3, 2)
    flat = bound(module)
    module.weight = nn.Parameter(torch.zeros(2, 4))
    with pytest.raises(LayoutError, match=r"weight was replaced by .*\(2, 4\)"):
        flat.mend()


def test_overlaps_and_sparse_tensors_are_refused_by_name() -> None:
    a = torch.zeros(10)
    holders = [Holder(["a"], a, Kind.TRAINED), Holder(["b"], b := a[4:8], Kind.TRAINED)]
    with pytest.raises(LayoutError, match="a and b share memory"):
        FlatParameters(holders)
    sparse = torch.zeros(3, 3).to_sparse()
    with pytest.raises(LayoutError, match="s of shape"):
        FlatParameters([Holder(["s"], sparse, Kind.TRAINED)])
    lazy = nn.LazyLinear(3)
    with pytest.raises(LayoutError, match="weight has no shape yet"):
        FlatParameters(named_tensors(lazy))
    assert b is not None


def test_a_block_does_not_keep_a_model_alive() -> None:
    module = nn.Linear(3, 2)
    flat = bound(module)
    assert flat.alive
    del module
    assert not flat.alive
    flat.mend()
    flat.bind(private_memory(flat.layout), keep=True)
