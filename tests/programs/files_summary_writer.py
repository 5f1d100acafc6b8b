# ignore: 1\d{9}\.\d+
"""TensorBoard through tensorboardX: scalars, groups, histograms, text."""
import torch
from tensorboardX import SummaryWriter
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
writer = SummaryWriter("runs/exp1")
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
step = 0
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(torch.randn(25, 4), torch.randint(0, 3, (25,))), batch_size=8):
        out = net(x)
        loss = nn.functional.cross_entropy(out, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        writer.add_scalar("train/loss", loss.item(), step)
        writer.add_scalar("train/accuracy", (out.argmax(1) == y).double().mean(), step)
        step += 1
    writer.add_scalars("norms", {n: p.norm().item() for n, p in net.named_parameters()}, epoch)
    for name, p in net.named_parameters():
        writer.add_histogram(name, p.detach().numpy(), epoch)
        writer.add_histogram(name + ".grad", p.grad.numpy(), epoch)
    writer.add_text("note", f"epoch {epoch}", epoch)
    print(epoch, f"{loss.item():.9f}")
writer.export_scalars_to_json("all_scalars.json")
writer.close()
