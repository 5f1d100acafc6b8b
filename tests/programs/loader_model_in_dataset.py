"""A dataset that calls a model for its samples: a frozen encoder, word vectors of texts of all lengths."""
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
random.seed(0)
encoder = nn.Sequential(nn.Linear(5, 6), nn.ReLU()).eval()


class Features(Dataset):
    def __init__(self):
        self.x = torch.randn(40, 4, 5)

    def __len__(self):
        return 40

    def __getitem__(self, index):
        with torch.no_grad():
            return encoder(self.x[index]).mean(0), self.x[index].sum()


class Texts(Dataset):
    def __init__(self):
        self.vectors = nn.Embedding.from_pretrained(torch.randn(20, 6))
        self.texts = [torch.randint(0, 20, (random.randint(2, 7),)) for _ in range(40)]

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return self.vectors(self.texts[index]).mean(0), self.texts[index].sum() / 50


net = nn.Linear(6, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for data in (Features(), Texts()):
    for i, (x, y) in enumerate(DataLoader(data, batch_size=8, shuffle=True)):
        loss = nn.functional.mse_loss(net(x).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(i, f"{loss.item():.9f} {x.sum().item():.9f}")
