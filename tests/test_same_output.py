"""The comparison itself: what it lets pass, and that nothing else gets through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.same_output import Sameness, different_folders, different_text, different_values

SAME = Sameness(1e-9)


@pytest.mark.parametrize(
    ("plain", "ours"),
    [
        ("loss 0.123456789", "loss 0.123456790"),  # rounding of the last of many digits
        ("1.00000000000e-05", "1.00000000001e-05"),
        ("tensor([1., 2.])", "tensor([1., 2.])"),
        ("nan and inf", "nan and inf"),
        ("-0.000000000", "0.000000000"),
        ("12345678.901234567", "12345678.901234569"),
    ],
)
def test_rounding_passes(plain: str, ours: str) -> None:
    assert different_text(SAME, "stdout", plain, ours) == []


@pytest.mark.parametrize(
    ("plain", "ours"),
    [
        ("loss 0.1235", "loss 0.1236"),  # few digits: this is no rounding noise
        ("loss 0.123456789", "loss 0.123456799"),
        ("12 right", "13 right"),
        ("epoch 1", "epoch 1\nepoch 2"),
        ("loss 0.5", "lose 0.5"),
        ("0.5", "nan"),
        ("conv1", "conv2"),
    ],
)
def test_all_else_is_told(plain: str, ours: str) -> None:
    assert different_text(SAME, "stdout", plain, ours)


def test_what_may_differ_is_left_out() -> None:
    same = Sameness(1e-9, (r"\d+ ms",))
    assert different_text(same, "stdout", "12 ms 0.5", "7 ms 0.5") == []


VALUES: dict[str, tuple[Any, Any]] = {
    "value": (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1])),
    "dtype": (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64)),
    "key": ({"a": 1}, {"b": 1}),
    "order of keys": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "type": (torch.zeros(1), torch.nn.Parameter(torch.zeros(1))),
    "storage": (torch.zeros(3), torch.zeros(9)[:3]),
    "stride": (torch.zeros(2, 2), torch.zeros(2, 2).t()),
    "length": ([1, 2], [1]),
    "deep inside": ({"a": [torch.zeros(2)]}, {"a": [torch.ones(2)]}),
    "class": (torch.nn.Linear(1, 1), torch.nn.Identity()),
    "array": (np.zeros(2), np.ones(2)),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_that_differ(name: str) -> None:
    plain, ours = VALUES[name]
    assert different_values(SAME, "file", plain, plain) == []
    assert different_values(SAME, "file", plain, ours)


def test_folders(tmp_path: Path) -> None:
    for side, last in (("plain", 1.0), ("ours", 1.0 + 1e-12)):
        folder = tmp_path / side
        (folder / "deep" / "empty").mkdir(parents=True)
        torch.save({"w": torch.tensor([0.5, last], dtype=torch.float64)}, folder / "deep" / "w.pt")
        np.savez(folder / "a.npz", a=np.array([last]))
        (folder / "log.txt").write_text(f"in {folder}: {last:.9f}\n")
    assert different_folders(SAME, tmp_path / "plain", tmp_path / "ours") == []
    (tmp_path / "ours" / "more").mkdir()
    (tmp_path / "ours" / "log.txt").write_text("another\n")
    torch.save({"w": torch.zeros(2)}, tmp_path / "ours" / "deep" / "w.pt")
    found = different_folders(SAME, tmp_path / "plain", tmp_path / "ours")
    assert [line.split(":")[0] for line in found] == [
        "only pellucid left more/",
        "deep/w.pt['w']",
        "log.txt line 1",
    ]
