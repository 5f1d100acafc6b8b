"""A script looks at a batch from Python and numpy."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
images, labels = torch.rand(41, 1, 33, 33), torch.randint(0, 3, (41,))
net = nn.Sequential(nn.Flatten(), nn.Linear(33 * 33, 3))
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for i, (x, y) in enumerate(DataLoader(TensorDataset(images, labels), batch_size=18)):
    print(x)
    print(y, f"{y}", str(y))
    print(repr(x[0, 0, 0, :3]), x[1, 0, 2, 3].item(), float(x[2, 0, 0, 0]), y[3].item(), int(y[4]))
    array = x.numpy()
    print(array.shape, array.dtype, array.mean(), np.asarray(x).sum(), np.array(y).tolist())
    print(y.tolist(), x[:2, 0, 0, :2].tolist(), x.flatten()[-1].item())
    print("%.6f" % x.mean(), "{:.6f}".format(x.max().item()), f"{x.min().item():.6f}", float(x.std()))
    print(x.argmax().item(), x.view(len(x), -1).argmax(1).tolist(), (x > 0.5).sum().item())
    print(bool((x >= 0).all()), bool((x > 2).any()), torch.equal(x, x.clone()), torch.allclose(x, x + 0))
    print((y == 1).nonzero().flatten().tolist(), y.unique().tolist(), y.bincount(minlength=3).tolist())
    print(x.norm().item(), x.median().item(), x.isnan().any().item(), hash(x) == hash(x), x is x)
    values, where = x.flatten(1).topk(2)
    print(values.tolist()[0], where.tolist()[-1], sum(row.sum().item() for row in x), max(y), 2 in y)
    if x.mean() > 0.1 and y[0] in (0, 1, 2) and not (x.max() > 1):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(i, f"{loss.item():.9f}")
    np.save(f"batch{i}.npy", x.detach().cpu().numpy())
torch.save(net.state_dict(), "host.pt")
