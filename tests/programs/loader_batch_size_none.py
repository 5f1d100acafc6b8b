"""The dataset hands out ready batches: no automatic batching."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Batches(Dataset):
    sizes = [8, 8, 5, 1, 12]

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(100 + i)
        x = torch.randn(self.sizes[i], 6, generator=g)
        return {"x": x, "y": x.prod(1).sign().clamp(0)}


torch.manual_seed(0)
loader = DataLoader(Batches(), batch_size=None, shuffle=True)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    for batch in loader:
        p = model(batch["x"]).squeeze(-1)
        loss = nn.functional.binary_cross_entropy(p, batch["y"])
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, len(batch["x"]), f"{loss.item():.9f}")
torch.save(model.state_dict(), "none.pt")
