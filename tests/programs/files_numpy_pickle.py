import pickle
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
out = Path("results") / "run0"
out.mkdir(parents=True)
net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
losses, predictions = [], []
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(torch.randn(22, 3), torch.randn(22, 1)), batch_size=7):
        pred = net(x)
        loss = nn.functional.mse_loss(pred, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        predictions.append(pred.detach().numpy())
np.save(out / "losses.npy", np.array(losses))
np.savez(out / "arrays.npz", predictions=np.concatenate(predictions), weight=net[0].weight.detach().numpy())
np.savetxt(out / "losses.txt", losses, fmt="%.9f")
with (out / "history.pkl").open("wb") as f:
    pickle.dump({"losses": losses, "weights": {k: v.numpy() for k, v in net.state_dict().items()}}, f)
(out / "summary.md").write_text(f"# Run\n\nfinal loss {losses[-1]:.9f}\n")
np.array(losses).tofile(out / "raw.f64")
print(np.load(out / "losses.npy").shape, sorted(p.name for p in out.iterdir()), (out / "raw.f64").stat().st_size)
with np.load(out / "arrays.npz") as arrays:
    print({k: v.shape for k, v in arrays.items()})
print(np.loadtxt(out / "losses.txt")[-1], pickle.loads((out / "history.pkl").read_bytes())["losses"][-1])
(out / "raw.f64").unlink()
