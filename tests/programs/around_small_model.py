"""A model too small to gain by being split, images large enough to stay split, and one kept."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Squares(Dataset):
    def __init__(self, n):
        self.images = torch.randn(n, 3, 24, 24)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, k):
        return self.images[k], int(self.images[k, 0, 0, 0] > 0)


train = DataLoader(Squares(60), 6, shuffle=True, num_workers=2, persistent_workers=True)
test = DataLoader(Squares(20), 8)
model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
before = None
for epoch in range(3):
    model.train()
    for images, labels in train:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        moved = 0.0 if before is None else float((images[0] - before[0]).abs().mean())
        before = images
        print(f"{loss.item():.6f} {moved:.6f}")
    model.eval()
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in test)
    print("epoch", epoch, "right", right, "of", len(test.dataset))
torch.save(model.state_dict(), "model.pt")
