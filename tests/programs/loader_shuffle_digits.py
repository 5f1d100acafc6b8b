"""Train a small MLP on scikit-learn's digits with a shuffled loader."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)

digits = load_digits()
x = torch.tensor(digits.data / 16.0)[:640]
y = torch.tensor(digits.target)[:640]
loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)

model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

for epoch in range(3):
    for images, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.9f}")

torch.save(model.state_dict(), "digits.pt")
