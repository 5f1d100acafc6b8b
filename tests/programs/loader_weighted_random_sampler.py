import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

torch.set_default_dtype(torch.float64)
torch.manual_seed(123)

# an imbalanced two-class problem
x0 = torch.randn(90, 4) - 0.5
x1 = torch.randn(10, 4) + 0.5
X = torch.cat([x0, x1])
Y = torch.cat([torch.zeros(90, dtype=torch.long), torch.ones(10, dtype=torch.long)])
class_weights = 1.0 / torch.bincount(Y).double()
sampler = WeightedRandomSampler(class_weights[Y], num_samples=len(Y), replacement=True)
loader = DataLoader(TensorDataset(X, Y), batch_size=16, sampler=sampler)

model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = optim.Adam(model.parameters(), lr=0.01)
for epoch in range(1, 4):
    positives = 0
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(inputs), targets)
        loss.backward()
        optimizer.step()
        positives += int(targets.sum())
    print("Epoch {}: loss={:.10f} positives={}".format(epoch, loss.item(), positives))

with torch.no_grad():
    predictions = model(X).argmax(1)
print("recall of the rare class:", (predictions[Y == 1] == 1).double().mean().item())
torch.save(model.state_dict(), "model.pt")
