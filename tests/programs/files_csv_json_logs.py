"""Metrics are written as csv, json lines, json and plain text while training."""
import csv
import json
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
os.mkdir("logs")  # fails when it exists
net = nn.Linear(4, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
with open("config.json", "w") as f:
    json.dump({"lr": 0.1, "model": str(net), "argv0": os.path.basename(__file__)}, f, indent=2)
log = open("logs/train.txt", "w", buffering=1)
rows = open("logs/train.csv", "w", newline="")
writer = csv.DictWriter(rows, fieldnames=["epoch", "step", "loss"])
writer.writeheader()
history = []
for epoch in range(2):
    for step, (x, y) in enumerate(DataLoader(TensorDataset(torch.randn(20, 4), torch.randint(0, 2, (20,))), batch_size=6)):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        writer.writerow({"epoch": epoch, "step": step, "loss": f"{loss.item():.9f}"})
        print(f"[{epoch}/{step}] {loss.item():.9f}", file=log)
        with open("logs/metrics.jsonl", "a") as f:
            f.write(json.dumps({"step": step, "loss": round(loss.item(), 9)}) + "\n")
        history.append(loss.item())
rows.close()
log.close()
with open("logs/metrics.jsonl") as f:
    back = [json.loads(line) for line in f]
print(len(back), len(open("logs/train.txt").readlines()), sorted(os.listdir("logs")), os.path.getsize("logs/train.csv"))
json.dump(history, open("history.json", "w"))
