"""torch.compile with the backends that need no compiler."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 16, 3)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        x = nn.functional.adaptive_avg_pool2d(x, 4)
        return self.fc(x.flatten(1))


for backend in ("eager", "aot_eager"):
    torch.manual_seed(0)
    net = Net()
    compiled = torch.compile(net, backend=backend)
    opt = torch.optim.SGD(compiled.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(2):
        for x, y in DataLoader(TensorDataset(torch.rand(29, 1, 10, 10), torch.randint(0, 3, (29,))), batch_size=8):
            loss = nn.functional.cross_entropy(compiled(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(backend, epoch, f"{loss.item():.9f}")
    torch.save(compiled.state_dict(), f"{backend}.pt")
    torch.save(net.state_dict(), f"{backend}_net.pt")

net.compile(backend="eager")


@torch.compile(backend="eager")
def step(x, y):
    return nn.functional.cross_entropy(net(x), y)


for x, y in DataLoader(TensorDataset(torch.rand(12, 1, 10, 10), torch.randint(0, 3, (12,))), batch_size=6):
    loss = step(x, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print("step", f"{loss.item():.9f}")
