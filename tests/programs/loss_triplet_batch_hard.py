"""Batch-hard triplets: each row's hardest positive and negative within the batch."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(3)
labels = torch.arange(48) % 6
points = torch.randn(6, 10)[labels] + torch.randn(48, 10)
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))
opt = torch.optim.Adam(net.parameters(), lr=0.01)


def batch_hard(embedding, label, margin=0.5):
    dist = torch.cdist(embedding, embedding)
    same = label[:, None] == label[None, :]
    hardest_positive = (dist * same).max(1).values
    hardest_negative = (dist + 1e6 * same).min(1).values
    return torch.relu(hardest_positive - hardest_negative + margin)


for epoch in range(4):
    for x, y in DataLoader(TensorDataset(points, labels), batch_size=18, shuffle=True):
        losses = batch_hard(net(x), y)
        loss = losses.mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, (losses > 0).sum().item(), f"{loss.item():.9f}")
anchor, positive, negative = points[:6], points[6:12], points[13:19]
triplet = nn.TripletMarginLoss(margin=1.0)
print(f"builtin {triplet(net(anchor), net(positive), net(negative)).item():.9f}")
torch.save(net.state_dict(), "triplet.pt")
