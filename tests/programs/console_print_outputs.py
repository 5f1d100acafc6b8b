# ignore: 0x[0-9a-f]+
"""Tutorials print the output of the net, a gradient function and all."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 5)
        self.fc1 = nn.Linear(3 * 14 * 14, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return self.fc1(torch.flatten(x, 1))


net = Net()
print(net)
params = list(net.parameters())
print(len(params), params[0].size())
input = torch.randn(4, 1, 32, 32)
out = net(input)
print(out)
print(out[0], out.shape, out.requires_grad, out.is_leaf)
net.zero_grad()
out.backward(torch.randn(4, 10))
output = net(input)
target = torch.randn(4, 10)
loss = nn.MSELoss()(output, target)
print(loss, output.detach())
print(loss.grad_fn)  # MSELoss
print("conv1.bias.grad before backward")
net.zero_grad()
print(net.conv1.bias.grad)
loss.backward()
print("conv1.bias.grad after backward")
print(net.conv1.bias.grad)
with torch.no_grad():
    print(net(input))
