"""Each loader process makes a generator of its own, from its seed and its number."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

torch.set_default_dtype(torch.float64)


class Noisy(Dataset):
    rng = None

    def __len__(self):
        return 40

    def __getitem__(self, i):
        info = get_worker_info()
        noise = torch.from_numpy(self.rng.normal(0, 0.1, 3))
        return torch.tensor([i, i * i / 40, 1.0]) / 40 + noise, i / 40, info.id, info.seed, info.num_workers


def start(number):
    info = get_worker_info()
    assert number == info.id
    info.dataset.rng = np.random.default_rng([info.seed, number, info.num_workers])


def main():
    torch.manual_seed(4)
    model = nn.Linear(3, 1)
    opt = torch.optim.SGD(model.parameters(), lr=0.3)
    for epoch in range(2):
        for x, y, number, seed, count in DataLoader(Noisy(), 7, num_workers=3, worker_init_fn=start):
            loss = nn.functional.mse_loss(model(x).squeeze(1), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(epoch, number.unique().tolist(), count[0].item(), seed[0].item(), f"{loss.item():.9f}")
    torch.save(model.state_dict(), "noisy.pt")


if __name__ == "__main__":
    main()
