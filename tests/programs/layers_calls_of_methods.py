"""Not everybody calls the model: forward directly, methods, submodules, functional parts."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 6), nn.ReLU())
        self.decoder = nn.Linear(6, 8)
        self.cls = nn.Linear(6, 3)
        self.temperature = nn.Parameter(torch.ones(1))

    def encode(self, x):
        return self.encoder(x)

    def decode(self, z):
        return torch.tanh(self.decoder(z))

    def forward(self, x):
        return self.decode(self.encode(x))

    def loss(self, x, y):
        z = self.encode(x)
        return F.cross_entropy(self.cls(z) * self.temperature, y) + F.mse_loss(self.decode(z), x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return {"loss": self.loss(x, y), "n": len(x)}

    @torch.no_grad()
    def predict(self, x):
        return self.cls(self.encode(x)).argmax(1)


torch.manual_seed(0)
model = Model()
opt = torch.optim.Adam(model.parameters(), lr=0.01)
loader = DataLoader(TensorDataset(torch.randn(37, 8), torch.randint(0, 3, (37,))), batch_size=7, shuffle=True)


def step(tag, loss):
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(tag, f"{loss.item():.9f}")


for i, (x, y) in enumerate(loader):
    step("call", F.mse_loss(model(x), x))
    step("forward", F.mse_loss(model.forward(x), x))
    step("methods", F.mse_loss(model.decode(model.encode(x)), x))
    step("loss method", model.loss(x, y))
    step("training_step", model.training_step((x, y), i)["loss"])
    step("submodule", F.cross_entropy(model.cls(model.encoder(x)), y))
    step("weights", F.linear(x, model.encoder[0].weight, model.encoder[0].bias).pow(2).mean())
    step("one layer", (model.encoder[0](x) * model.temperature).abs().mean())
    print((model.predict(x) == y).sum().item())
torch.save(model.state_dict(), "methods.pt")
