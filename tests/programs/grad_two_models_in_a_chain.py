"""Encoder, attention and decoder are separate modules, called one after another by the script."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
encoder = nn.Sequential(nn.Conv1d(2, 6, 3, padding=1), nn.ReLU())
gate = nn.Conv1d(6, 1, 1)
decoder = nn.Linear(6, 2)
scale = nn.Parameter(torch.ones(2))
optimizers = [
    torch.optim.Adam(encoder.parameters(), lr=0.01),
    torch.optim.SGD([*gate.parameters(), scale], lr=0.1),
    torch.optim.RMSprop(decoder.parameters(), lr=0.01),
]
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(torch.randn(39, 2, 15), torch.randn(39, 2)), batch_size=11):
        h = encoder(x)
        weights = torch.softmax(gate(h), dim=-1)
        pooled = torch.einsum("bct,bot->bc", h, weights)
        out = decoder(pooled) * scale
        loss = nn.functional.mse_loss(out, y) - 0.01 * (weights * weights.log()).sum(-1).mean()
        for o in optimizers:
            o.zero_grad()
        loss.backward()
        for o in optimizers:
            o.step()
        print(epoch, f"{loss.item():.9f}", scale.tolist())
torch.save({"e": encoder.state_dict(), "g": gate.state_dict(), "d": decoder.state_dict(), "s": scale}, "chain.pt")
