"""The best epoch on validation is saved, copied, loaded and tested; predictions go to a csv."""
import csv
import shutil

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
X = torch.randn(90, 5)
Y = (X[:, 0] + X[:, 1] ** 2 > 0.7).long()
train, valid, test = (DataLoader(TensorDataset(X[a:b], Y[a:b]), batch_size=11, shuffle=a == 0) for a, b in ((0, 50), (50, 70), (70, 90)))
model = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 2))
opt = torch.optim.Adam(model.parameters(), lr=0.02)
best_acc = -1.0


def save_checkpoint(state, is_best, filename="checkpoint.pth.tar"):
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, "model_best.pth.tar")


def accuracy(loader):
    model.eval()
    hits = 0
    with torch.no_grad():
        for x, y in loader:
            hits += (model(x).argmax(1) == y).sum()
    model.train()
    return hits.double().item() / len(loader.dataset)


for epoch in range(6):
    for x, y in train:
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    acc = accuracy(valid)
    is_best = acc > best_acc
    best_acc = max(acc, best_acc)
    save_checkpoint({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc": best_acc}, is_best)
    print(epoch, f"{loss.item():.9f} valid {acc:.4f}", "*" if is_best else "")
checkpoint = torch.load("model_best.pth.tar")
model.load_state_dict(checkpoint["state_dict"])
print("best epoch", checkpoint["epoch"], f"test {accuracy(test):.4f}")
model.eval()
with open("predictions.csv", "w", newline="") as f, torch.no_grad():
    writer = csv.writer(f)
    writer.writerow(["row", "p0", "p1", "truth"])
    row = 0
    for x, y in test:
        for p, t in zip(model(x).softmax(1), y):
            writer.writerow([row, f"{p[0]:.9f}", f"{p[1]:.9f}", t.item()])
            row += 1
