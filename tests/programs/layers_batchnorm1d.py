"""BatchNorm1d over rows and over sequences, uneven last batch, all its options, then eval."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(50, 6, 4), torch.randint(0, 3, (50,))), batch_size=12, shuffle=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 8, 3)
        self.seq = nn.BatchNorm1d(8)
        self.fc1 = nn.Linear(16, 10)
        self.rows = nn.BatchNorm1d(10, momentum=None)
        self.fc2 = nn.Linear(10, 10)
        self.plain = nn.BatchNorm1d(10, affine=False, eps=1e-3)
        self.fc3 = nn.Linear(10, 10)
        self.untracked = nn.BatchNorm1d(10, track_running_stats=False)
        self.out = nn.Linear(10, 3)

    def forward(self, x):
        x = torch.relu(self.seq(self.conv(x))).flatten(1)
        x = torch.relu(self.rows(self.fc1(x)))
        x = torch.relu(self.plain(self.fc2(x)))
        return self.out(torch.relu(self.untracked(self.fc3(x))))


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for epoch in range(3):
    net.train()
    for x, y in loader:
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(len(x), f"{loss.item():.9f}")
    net.eval()
    with torch.no_grad():
        total = sum(nn.functional.cross_entropy(net(x), y, reduction="sum").item() for x, y in loader)
    print(f"epoch {epoch} eval {total / 50:.9f}", net.rows.num_batches_tracked.item(), f"{net.seq.running_var.sum().item():.9f}")
torch.save(net.state_dict(), "bn1d.pt")
