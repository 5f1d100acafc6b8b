"""Train and validation drawn from one dataset through index samplers, as in old tutorials."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.sampler import SubsetRandomSampler

torch.set_default_dtype(torch.float64)
np.random.seed(42)
torch.manual_seed(42)

features = torch.from_numpy(np.random.randn(100, 6))
labels = (features[:, 0] * features[:, 1] > 0).long()
dataset = TensorDataset(features, labels)
indices = np.random.permutation(len(dataset))
split = int(0.2 * len(dataset))
valid_loader = DataLoader(dataset, batch_size=20, sampler=SubsetRandomSampler(indices[:split]))
train_loader = DataLoader(dataset, batch_size=20, sampler=SubsetRandomSampler(indices[split:]))

net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2))
optimizer = torch.optim.RMSprop(net.parameters(), lr=0.005)
criterion = nn.CrossEntropyLoss()
best = np.inf
for epoch in range(4):
    net.train()
    train_loss = 0.0
    for data, target in train_loader:
        optimizer.zero_grad()
        loss = criterion(net(data), target)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * data.size(0)
    net.eval()
    valid_loss = 0.0
    with torch.no_grad():
        for data, target in valid_loader:
            valid_loss += criterion(net(data), target).item() * data.size(0)
    train_loss /= len(train_loader.sampler)
    valid_loss /= len(valid_loader.sampler)
    print(f"Epoch: {epoch} \tTraining Loss: {train_loss:.9f} \tValidation Loss: {valid_loss:.9f}")
    if valid_loss <= best:
        print(f"Validation loss decreased ({best:.9f} --> {valid_loss:.9f}).  Saving model ...")
        torch.save(net.state_dict(), "model_best.pt")
        best = valid_loss
