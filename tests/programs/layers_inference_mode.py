"""Evaluation in torch.inference_mode, with batches made there, lists of images, and a fresh model."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Images(Dataset):
    def __len__(self):
        return 11

    def __getitem__(self, k):
        return torch.full((3, 6 + k % 2, 6), float(k)).sin(), {"id": torch.tensor([k])}


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images):
        high = max(image.shape[1] for image in images)
        batch = torch.stack([nn.functional.pad(i, (0, 0, 0, high - i.shape[1])) for i in images])
        return [{"scores": row.flatten().softmax(0)[:3]} for row in self.norm(self.conv(batch))]


net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
opt = torch.optim.SGD(net.parameters(), 0.1)
data = TensorDataset(torch.randn(40, 5), torch.randn(40, 2))
detector = Detector().eval()
for epoch in range(2):
    net.train()
    for x, y in DataLoader(data, 8, shuffle=True):
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    with torch.inference_mode():
        total = sum(nn.functional.mse_loss(net(x * 2), y, reduction="sum") for x, y in DataLoader(data, 7))
        print(f"{epoch} {loss.item():.9f} {total.item():.9f} {total.is_inference()}")
        for images, targets in DataLoader(Images(), 4, collate_fn=lambda batch: tuple(zip(*batch))):
            found = detector(list(images))
            print({t["id"].item(): round(f["scores"].sum().item(), 9) for t, f in zip(targets, found)})
        made = nn.Linear(5, 1)  # its parameters are inference tensors
        print(f"{made(data.tensors[0]).sum().item():.9f}")
torch.save(net.state_dict(), "net.pt")
