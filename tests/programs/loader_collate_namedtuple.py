from collections import namedtuple

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)
Sample = namedtuple("Sample", ["image", "label", "index"])


class Blobs(Dataset):
    def __init__(self, size=36, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 3, (size,), generator=g)
        self.images = torch.randn(size, 1, 6, 6, generator=g)
        for image, label in zip(self.images, self.labels):
            image[0, label * 2] += 2.0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return Sample(self.images[i], self.labels[i], i)


torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
opt = torch.optim.SGD(model.parameters(), 0.1)
for epoch in range(3):
    for batch in DataLoader(Blobs(), batch_size=10, shuffle=True):
        assert isinstance(batch, Sample), type(batch)
        logits = model(batch.image)
        loss = nn.functional.cross_entropy(logits, batch.label)
        opt.zero_grad(), loss.backward(), opt.step()
        image, label, index = batch
        print(epoch, image.shape, label.shape, index[0].item(), f"{loss.item():.9f}")
torch.save(model.state_dict(), "blobs.pt")
