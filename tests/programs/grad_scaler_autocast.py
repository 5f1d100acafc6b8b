# tolerance: 2e-2 (bfloat16 keeps 8 bits; a sum in another order rounds differently)
"""Mixed precision as in the recipes, on the CPU: autocast to bfloat16 and a GradScaler."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(64, 16)
Y = (X[:, :4].sum(1) > 0).long()
net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=5)
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(X, Y), batch_size=16):
        opt.zero_grad()
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            output = net(x)
            assert output.dtype is torch.bfloat16
            loss = nn.functional.cross_entropy(output.float(), y)
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
    print(epoch, f"{loss.item():.3f}", scaler.get_scale())
torch.save({"net": net.state_dict(), "scaler": scaler.state_dict()}, "amp.pt")
