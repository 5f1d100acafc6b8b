"""The output layer shares the embedding's matrix; one layer is applied three times."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Tied(nn.Module):
    def __init__(self, vocab=20, width=8):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.block = nn.Linear(width, width)
        self.alias = self.block
        self.out = nn.Linear(width, vocab)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        h = self.embed(tokens)
        for _ in range(2):
            h = h + torch.tanh(self.block(h))
        return self.out(self.alias(h))


torch.manual_seed(0)
model = Tied()
print(len(list(model.parameters())), len(model.state_dict()), model.out.weight is model.embed.weight)
text = torch.randint(0, 20, (41, 6))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for (t,) in DataLoader(TensorDataset(text), batch_size=9, shuffle=True):
        logits = model(t[:, :-1])
        loss = nn.functional.cross_entropy(logits.reshape(-1, 20), t[:, 1:].reshape(-1))
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f} {model.embed.weight.grad.norm().item():.9f}")
assert model.out.weight is model.embed.weight
torch.save(model.state_dict(), "tied.pt")
again = Tied()
again.load_state_dict(torch.load("tied.pt"))
print(f"{again(text[:3, :-1]).sum().item():.9f}")
