import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Polynomial(nn.Module):
    def __init__(self, degree):
        super().__init__()
        self.coefficients = nn.ParameterList([nn.Parameter(torch.randn(4) * 0.1) for _ in range(degree)])
        self.terms = nn.ParameterDict({"bias": nn.Parameter(torch.zeros(1)), "scale": nn.Parameter(torch.ones(()))})
        self.mats = nn.ParameterList()
        self.mats.append(torch.eye(4))
        self.register_parameter("nothing", None)

    def forward(self, x):
        y = self.terms["bias"] + 0 * x[:, 0]
        for power, c in enumerate(self.coefficients, 1):
            y = y + (x @ self.mats[0]) ** power @ c
        return y * self.terms["scale"]


torch.manual_seed(0)
X = torch.randn(44, 4)
model = Polynomial(3)
opt = torch.optim.Adam(model.parameters(), lr=0.02)
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(X, X.pow(2).sum(1)), batch_size=10, shuffle=True):
        loss = nn.functional.huber_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}", f"{model.terms['scale'].item():.9f}")
torch.save(model.state_dict(), "polynomial.pt")
