"""A stream of ready batches, sharded by process: no automatic batching, and an early end."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

torch.set_default_dtype(torch.float64)


class Ready(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        for k in range(info.id, 15, info.num_workers):
            rows = 40 + k
            yield {"x": torch.randn(rows, 64), "y": np.random.rand(rows), "key": f"{k:03d}", "none": None}


def main():
    torch.manual_seed(3)
    loader = DataLoader(Ready(), batch_size=None, num_workers=2)
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 1))
    opt = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(3):
        for step, batch in enumerate(loader):
            loss = nn.functional.mse_loss(model(batch["x"]).squeeze(1), batch["y"])
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(epoch, batch["key"], type(batch["y"]).__name__, batch["none"], f"{loss.item():.9f}")
            if epoch == 1 and step == 4:
                break
    torch.save(model.state_dict(), "ready.pt")


if __name__ == "__main__":
    main()
