"""A script with modules, a configuration and data files beside it."""
import json
import os
import sys

import torch
from dataset import CsvDataset
from networks import build, names
from torch.utils.data import DataLoader

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "config.json")) as f:
    config = json.load(f)

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(config["seed"])
    dataset = CsvDataset("data/points.csv")
    print(len(dataset), names(), sys.argv[1:])
    for name in names():
        net = build(name, config)
        opt = torch.optim.SGD(net.parameters(), **config["optimizer"])
        for epoch in range(config["epochs"]):
            for x, y in DataLoader(dataset, batch_size=config["batch"], shuffle=True):
                loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x), y)
                opt.zero_grad()
                loss.backward()
                opt.step()
            print(name, epoch, f"{loss.item():.9f}")
        os.makedirs("weights", exist_ok=True)
        torch.save(net.state_dict(), f"weights/{name}.pt")
