"""A vocabulary made from a set: its order changes with every run, but not the result."""
import torch
from torch import nn
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
TEXTS = [("good great fun", 1), ("bad awful", 0), ("great show", 1), ("awful boring show", 0), ("fun fun", 1), ("boring bad plot", 0), ("good plot", 1)]
vocab = {w: i for i, w in enumerate({w for t, _ in TEXTS for w in t.split()})}


def collate(batch):
    x = torch.zeros(len(batch), len(vocab))
    for row, (text, _) in enumerate(batch):
        for w in text.split():
            x[row, vocab[w]] += 1
    return x, torch.tensor([float(y) for _, y in batch])


model = nn.Linear(len(vocab), 1)
nn.init.zeros_(model.weight)
nn.init.zeros_(model.bias)
opt = torch.optim.SGD(model.parameters(), lr=0.5)
for epoch in range(5):
    for x, y in DataLoader(TEXTS, batch_size=3, collate_fn=collate):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(1), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, f"{loss.item():.9f}")
for word in sorted(vocab):
    print(f"{word:8s} {model.weight[0, vocab[word]].item():+.9f}")
