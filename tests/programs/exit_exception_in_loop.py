# exit: 1
# stderr: traceback
"""An exception of the script's own, raised in the training loop: its traceback, once."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Diverged(RuntimeError):
    pass


def check(loss, step):
    if step == 3:
        raise Diverged(f"step {step}: loss is {loss:.6f}")


def main():
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(torch.randn(30, 3), torch.randn(30, 1)), batch_size=5)
    for step, (x, y) in enumerate(loader):
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(step, f"{loss.item():.9f}")
        check(loss.item(), step)


if __name__ == "__main__":
    main()
