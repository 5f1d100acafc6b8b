"""A conditional model: one-hot labels are appended to the images, as channels and as features."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(2)
K = 4
x_all, y_all = torch.rand(45, 1, 22, 22), torch.randint(0, K, (45,))
flat = nn.Sequential(nn.Linear(22 * 22 + K, 16), nn.ReLU(), nn.Linear(16, 22 * 22))
conv = nn.Sequential(nn.Conv2d(1 + K, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 20 * 20, 1))
opt = torch.optim.Adam([{"params": flat.parameters()}, {"params": conv.parameters(), "lr": 1e-4}], lr=1e-3)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(x_all, y_all), batch_size=16, shuffle=True):
        onehot = F.one_hot(y, K).to(x.dtype)
        scattered = torch.zeros(x.size(0), K).scatter_(1, y.unsqueeze(1), 1.0)
        assert torch.equal(onehot, scattered)
        recon = flat(torch.cat([x.view(x.size(0), -1), onehot], 1)).view_as(x)
        planes = onehot[:, :, None, None].expand(-1, -1, x.size(2), x.size(3))
        score = conv(torch.cat((recon, planes), 1))
        loss = F.mse_loss(recon, x) + F.softplus(score).mean() + torch.eye(K)[y].std() * 0
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, planes.shape, f"{loss.item():.9f}")
torch.save([flat.state_dict(), conv.state_dict()], "conditional.pt")
