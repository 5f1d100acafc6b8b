"""Refuses to overwrite results, numbers its runs, takes a lock: all before the first batch."""

import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
out = Path("out")
if out.exists():
    sys.exit(f"{out} exists already: will not overwrite it")
out.mkdir()

runs = Path("runs")
runs.mkdir(exist_ok=True)
number = len(list(runs.iterdir()))
run = runs / f"run{number}"
run.mkdir()
with (run / "lock").open("x") as lock:
    lock.write("taken")
(run / "config.json").write_text(json.dumps({"lr": 0.1}))

torch.manual_seed(0)
vocabulary = Path("vocabulary.json")
if vocabulary.exists():
    order = json.loads(vocabulary.read_text())
else:
    order = torch.randperm(6).tolist()
    vocabulary.write_text(json.dumps(order))
    print("made a vocabulary")

x = torch.randn(30, 6)[:, order]
y = x.sum(1, keepdim=True)
model = nn.Linear(6, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with (run / "log.csv").open("w") as log:
    for epoch in range(2):
        for rows, targets in DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True):
            loss = nn.functional.mse_loss(model(rows), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log.write(f"{epoch},{loss.item():.6f}\n")
(run / "lock").unlink()
torch.save(model.state_dict(), out / "model.pt")
print(number, sorted(str(path) for path in Path().rglob("*")), (run / "log.csv").read_text())
