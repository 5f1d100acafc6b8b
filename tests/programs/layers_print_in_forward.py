"""A model that prints the shapes it sees, in the first call, and asserts on them."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Chatty(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4 * 36, 2)
        self.first = True

    def forward(self, x):
        if self.first:
            print("input", x.shape, "from", x.size(0), "rows")
        x = torch.relu(self.conv(x))
        if self.first:
            print("conv", tuple(x.shape), f"mean {x.mean().item():.9f}")
        x = x.view(x.size(0), -1)
        assert x.shape[1] == 4 * 36, "wrong shape"
        self.first = False
        return self.fc(x)


torch.manual_seed(0)
net = Chatty()
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for epoch in range(2):
    net.first = True
    for x, y in DataLoader(TensorDataset(torch.rand(22, 1, 8, 8), torch.randint(0, 2, (22,))), batch_size=6):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
torch.save(net.state_dict(), "chatty.pt")
