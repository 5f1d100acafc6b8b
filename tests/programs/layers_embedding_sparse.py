"""Sparse gradients of embeddings, with SparseAdam and SGD; matrix factorisation."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Factors(nn.Module):
    def __init__(self, users, items, k):
        super().__init__()
        self.user = nn.Embedding(users, k, sparse=True)
        self.item = nn.Embedding(items, k, sparse=True)
        self.user_bias = nn.Embedding(users, 1)

    def forward(self, u, i):
        return (self.user(u) * self.item(i)).sum(1) + self.user_bias(u).squeeze(1)


torch.manual_seed(0)
u, i = torch.randint(0, 12, (70,)), torch.randint(0, 15, (70,))
r = torch.rand(70) * 5
model = Factors(12, 15, 3)
sparse = torch.optim.SparseAdam([model.user.weight, model.item.weight], lr=0.05)
dense = torch.optim.SGD(model.user_bias.parameters(), lr=0.1)
for epoch in range(3):
    for a, b, c in DataLoader(TensorDataset(u, i, r), batch_size=16, shuffle=True):
        loss = nn.functional.mse_loss(model(a, b), c)
        sparse.zero_grad()
        dense.zero_grad()
        loss.backward()
        grad = model.user.weight.grad
        print(epoch, grad.is_sparse, f"{loss.item():.9f} {grad.to_dense().norm().item():.9f}")
        sparse.step()
        dense.step()
torch.save(model.state_dict(), "factors.pt")
