import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
X = torch.linspace(-1, 1, 50).unsqueeze(1)
Y = X**3 - 0.5 * X
model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
criterion = nn.MSELoss()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, history_size=5)
for x, y in DataLoader(TensorDataset(X, Y), batch_size=25):
    calls = 0

    def closure():
        global calls
        calls += 1
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    print(calls, f"{loss.item():.9f}")

wolfe = torch.optim.LBFGS(model.parameters(), max_iter=5, line_search_fn="strong_wolfe")


def full_batch():
    wolfe.zero_grad()
    loss = criterion(model(X), Y)
    if loss.requires_grad:
        loss.backward()
    print(f"   closure {loss.item():.9f}")
    return loss


for _ in range(2):
    wolfe.step(full_batch)
with torch.no_grad():
    print(f"final {criterion(model(X), Y).item():.9f}")
torch.save(model.state_dict(), "lbfgs.pt")
