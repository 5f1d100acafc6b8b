# stderr: epoch \d: 100%
# stderr: written between
"""Progress bars on stderr: one, and no more."""
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm, trange

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Linear(4, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(torch.randn(26, 4), torch.randint(0, 2, (26,))), batch_size=5)
for epoch in range(2):
    with tqdm(loader, desc=f"epoch {epoch}", unit="batch") as bar:
        for x, y in bar:
            loss = nn.functional.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            bar.set_postfix(loss=f"{loss.item():.9f}", lr=0.1)
    tqdm.write("written between", file=sys.stderr)
    tqdm.write(f"{epoch} {loss.item():.9f}")
for _ in trange(3, file=sys.stdout, bar_format="{desc}{n_fmt}/{total_fmt}", mininterval=0, miniters=1):
    pass
torch.save(net.state_dict(), "tqdm.pt")
