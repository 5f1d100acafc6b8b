"""A small residual network: BatchNorm2d in training and in evaluation."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class BasicBlock(nn.Module):
    def __init__(self, inp, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inp, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or inp != out:
            self.shortcut = nn.Sequential(nn.Conv2d(inp, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(BasicBlock(4, 4, 1), BasicBlock(4, 8, 2))
        self.linear = nn.Linear(8, 5)

    def forward(self, x):
        x = self.layers(self.stem(x))
        return self.linear(F.avg_pool2d(x, 8).view(x.size(0), -1))


torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.rand(42, 3, 16, 16), torch.randint(0, 5, (42,))), batch_size=11, shuffle=True)
net = ResNet()
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
for epoch in range(2):
    net.train()
    for x, y in loader:
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
    net.eval()
    with torch.no_grad():
        right = sum(net(x).argmax(1).eq(y).sum().item() for x, y in loader)
    print("right", right, "of 42")
torch.save(net.state_dict(), "resnet.pt")
