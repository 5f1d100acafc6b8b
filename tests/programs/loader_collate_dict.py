import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Houses(Dataset):
    """Samples are nested dicts; the default collate batches their leaves."""

    def __init__(self, n):
        gen = torch.Generator().manual_seed(9)
        self.rows = torch.rand(n, 4, generator=gen)

    def __len__(self):
        return self.rows.shape[0]

    def __getitem__(self, idx):
        row = self.rows[idx]
        return {
            "id": idx,
            "features": {"numeric": row[:3], "zip": int(row[3] * 10)},
            "price": float(row @ torch.tensor([3.0, 1.0, -2.0, 0.5])),
            "city": "north" if row[3] > 0.5 else "south",
        }


class PriceModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.zip = nn.Embedding(10, 4)
        self.head = nn.Sequential(nn.Linear(7, 12), nn.ReLU(), nn.Linear(12, 1))

    def forward(self, features):
        merged = torch.cat([features["numeric"], self.zip(features["zip"])], dim=1)
        return self.head(merged).flatten()


torch.manual_seed(0)
loader = DataLoader(Houses(50), batch_size=8, shuffle=True)
model = PriceModel()
opt = torch.optim.Adam(model.parameters(), lr=0.02)
for epoch in range(3):
    for batch in loader:
        pred = model(batch["features"])
        loss = nn.functional.smooth_l1_loss(pred, batch["price"])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, batch["id"].tolist(), batch["city"], f"{loss.item():.9f}")
torch.save(model.state_dict(), "price.pt")
