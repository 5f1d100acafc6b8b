"""ReduceLROnPlateau on the validation loss, and early stopping with the best weights restored."""
import copy

import torch
import torch.nn as nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class EarlyStopping:
    def __init__(self, patience=3, delta=0.0):
        self.patience, self.delta = patience, delta
        self.counter, self.best, self.stop = 0, None, False
        self.weights = None

    def __call__(self, val_loss, model):
        if self.best is None or val_loss < self.best - self.delta:
            self.best, self.counter = val_loss, 0
            self.weights = copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
            print(f"EarlyStopping counter: {self.counter} out of {self.patience}")
            self.stop = self.counter >= self.patience


torch.manual_seed(0)
train = TensorDataset(torch.randn(24, 10), torch.randint(0, 2, (24,)))
valid = TensorDataset(torch.randn(30, 10), torch.randint(0, 2, (30,)))
model = nn.Sequential(nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
scheduler = ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=1)
stopping = EarlyStopping()
criterion = nn.CrossEntropyLoss()
for epoch in range(30):
    model.train()
    for x, y in DataLoader(train, batch_size=7, shuffle=True):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val = sum(criterion(model(x), y).item() * len(x) for x, y in DataLoader(valid, batch_size=8)) / len(valid)
    scheduler.step(val)
    print(f"epoch {epoch} train {loss.item():.9f} valid {val:.9f} lr {scheduler.get_last_lr()}")
    stopping(val, model)
    if stopping.stop:
        print("Early stopping")
        break
model.load_state_dict(stopping.weights)
torch.save(model.state_dict(), "best.pt")
