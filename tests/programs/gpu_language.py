# tolerance: 1e-8
"""A small language model on a GPU if there is one, by default device, without a loader, with bfloat16 sums at the end."""
import torch
import torch.nn.functional as F
from torch import nn

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_default_device(device)
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.last = nn.Embedding(30, 16), nn.Linear(16, 30, bias=False)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True)
        self.last.weight = self.words.weight

    def forward(self, x, y):
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(1))
        logits = self.last(self.layer(self.words(x), mask))
        return logits, F.cross_entropy(logits.flatten(0, 1), y.flatten())


text = torch.randint(0, 30, (400,))
net = Language()
optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
for step in range(70):  # weights are compared every 64
    at = torch.randint(0, 380, (8,)).tolist()
    x, y = torch.stack([text[k : k + 12] for k in at]), torch.stack([text[k + 1 : k + 13] for k in at])
    _, loss = net(x, y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(step, f"{loss.item():.9f}")
half = nn.Linear(16, 4, dtype=torch.bfloat16)
loss = half(torch.ones(8, 16, dtype=torch.bfloat16)).float().sum()
loss.backward()
print(half.weight.grad.dtype, half.weight.grad.sum().item())
torch.save({name: value.cpu() for name, value in net.state_dict().items()}, "net.pt")
