import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(4)
net = nn.RNN(3, 8, batch_first=True)
head = nn.Linear(8, 1)
params = list(net.parameters()) + list(head.parameters())
opt = torch.optim.RMSprop(params, lr=1e-3, momentum=0.5, centered=True)
data = TensorDataset(torch.randn(30, 12, 3), torch.randn(30, 1))
for epoch in range(3):
    for x, y in DataLoader(data, batch_size=8):
        _, h = net(x)
        loss = (head(h[-1]) - y).abs().sum()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(params, clip_value=0.05)
        for p in head.parameters():
            p.grad.clamp_(-0.02, 0.02)
        opt.step()
        print(epoch, f"{loss.item():.9f}", max(p.grad.abs().max().item() for p in params))
torch.save([net.state_dict(), head.state_dict()], "values.pt")
