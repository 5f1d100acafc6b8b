"""The batch class of the PyTorch documentation, with pin_memory and attributes."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class SimpleCustomBatch:
    def __init__(self, data):
        transposed_data = list(zip(*data))
        self.inp = torch.stack(transposed_data[0], 0)
        self.tgt = torch.stack(transposed_data[1], 0)

    # custom memory pinning method on custom type
    def pin_memory(self):
        self.inp = self.inp.pin_memory()
        self.tgt = self.tgt.pin_memory()
        return self

    def __len__(self):
        return len(self.inp)


def collate_wrapper(batch):
    return SimpleCustomBatch(batch)


inps = torch.arange(10 * 5, dtype=torch.float64).view(10, 5) / 50
tgts = torch.arange(10 * 5, dtype=torch.float64).view(10, 5) / 25
dataset = TensorDataset(inps, tgts)
loader = DataLoader(dataset, batch_size=4, collate_fn=collate_wrapper)

torch.manual_seed(0)
model = nn.Linear(5, 5)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(4):
    for sample in loader:
        loss = nn.functional.mse_loss(model(sample.inp), sample.tgt)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(len(sample), sample.inp.is_pinned(), f"{loss.item():.9f}")
torch.save(model.state_dict(), "custom.pt")
