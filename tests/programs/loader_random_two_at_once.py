"""Two loaders with random samples, iterated together and one within the other."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Noise(Dataset):
    def __init__(self, n, mean):
        self.n, self.mean = n, mean

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.mean + torch.randn(5)


def main():
    torch.manual_seed(0)
    a = DataLoader(Noise(30, 0.0), batch_size=5, shuffle=True, num_workers=2)
    b = DataLoader(Noise(50, 1.0), batch_size=8, num_workers=1, in_order=False)
    model = nn.Linear(5, 1)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        for x, y in zip(a, b):
            loss = (model(x).mean() - model(y).mean() + 1) ** 2
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(epoch, f"{x.sum().item():.9f} {y.sum().item():.9f} {loss.item():.9f}")
    for x in a:
        print(f"{sum(y.sum().item() for y in b) + x.sum().item():.9f}")
    torch.save(model.state_dict(), "two.pt")


if __name__ == "__main__":
    main()
