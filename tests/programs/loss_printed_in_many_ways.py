import math

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.set_printoptions(precision=10)
torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(30, 3), torch.randn(30, 1)), batch_size=7)
model = nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
losses, raw, best = [], [], float("inf")
running = 0
for step, (x, y) in enumerate(loader):
    loss = nn.functional.mse_loss(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(loss)
    print(loss.item(), float(loss.detach()), loss.detach().numpy(), loss.data)
    print(f"{loss.item():.9f} {loss:.9f} {loss.detach():10.6f} {step:03d}")
    print("%.8f" % loss.item(), "{:>14.10f}".format(loss.item()), "{0!r:.12}".format(loss.item()))
    print(str(loss.item())[:8], round(loss.item(), 9), np.round(loss.detach().numpy(), 6), loss.tolist())
    print(math.sqrt(loss), math.log(loss.item()), loss.detach().sqrt().item(), np.exp(loss.item()))
    running += loss.item()
    losses.append(loss.item())
    raw.append(loss.detach())
    if loss < best:
        best = loss.item()
    print(loss < 1.0, bool(loss > 0.5), loss.shape, loss.ndim, loss.dtype, loss.requires_grad, loss.grad_fn is not None)
print(np.mean(losses), sum(losses) / len(losses), torch.stack(raw).mean(), torch.tensor(losses).std(), running, best)
print(model, list(model.named_parameters()), sep="\n")
torch.save({"losses": losses, "state": model.state_dict()}, "losses.pt")
