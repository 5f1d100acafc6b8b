import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
nhwc = torch.rand(48, 28, 28, 3)
y = torch.randn(48, 1)
grey = torch.rand(48, 28, 28)
net = nn.Sequential(nn.Conv2d(4, 4, 7, stride=3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 8 * 8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.02)
for epoch in range(2):
    for colour, g, t in DataLoader(TensorDataset(nhwc, grey, y), batch_size=20):
        x = colour.permute(0, 3, 1, 2)
        g = g.unsqueeze(1)
        both = torch.cat((x, g), dim=1).contiguous(memory_format=torch.channels_last)
        rot = torch.rot90(both, 1, (2, 3)) if epoch else both
        out = net(rot)
        loss = (out - t).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        first = nhwc.shape
        print(x.shape, x.stride(), x.mT.shape, g.squeeze(1).shape, x.movedim(1, -1).shape)
        print(x.is_contiguous(), x.transpose(2, 3).contiguous().is_contiguous(), f"{loss.item():.9f}")
torch.save(net.state_dict(), "nhwc.pt")
