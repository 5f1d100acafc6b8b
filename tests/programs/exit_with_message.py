# exit: 1
# stderr: ^loss did not.*
"""sys.exit with text from within the loop; atexit and finally still happen."""
import atexit
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
atexit.register(lambda: print("good bye"))
net = nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=2.0)  # diverges
last = float("inf")
try:
    for epoch in range(10):
        for x, y in DataLoader(TensorDataset(torch.randn(12, 3), torch.randn(12, 1)), batch_size=5):
            loss = nn.functional.mse_loss(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        print(epoch, f"{loss.item():.6e}")
        if loss.item() > 1e4:
            sys.exit("loss did not go down")
finally:
    print("finally")
    with open("report.txt", "w") as f:
        f.write("stopped\n")
