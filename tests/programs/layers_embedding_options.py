"""padding_idx, max_norm (changes its weight in forward), EmbeddingBag with offsets, from_pretrained."""
import torch
from torch import nn
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
documents = [(torch.randint(1, 25, (int(n),)), int(n) % 3) for n in torch.randint(1, 9, (29,))]


def collate(batch):
    texts, labels = zip(*batch)
    offsets = torch.tensor([0] + [len(t) for t in texts]).cumsum(0)[:-1]
    return torch.cat(texts), offsets, nn.utils.rnn.pad_sequence(texts, batch_first=True), torch.tensor(labels)


class Bags(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(25, 6, mode="mean")
        self.out = nn.Linear(6, 3)

    def forward(self, text, offsets):
        return self.out(self.bag(text, offsets))


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.trained = nn.Embedding(25, 4, padding_idx=0, max_norm=1.0)
        self.fixed = nn.Embedding.from_pretrained(torch.randn(25, 4), freeze=True)
        self.scaled = nn.Embedding(25, 4, scale_grad_by_freq=False)
        self.out = nn.Linear(12, 3)

    def forward(self, ids):
        h = torch.cat([self.trained(ids), self.fixed(ids), self.scaled(ids)], -1)
        return self.out(h.sum(1))


bags, padded = Bags(), Padded()
opt = torch.optim.SGD([p for p in [*bags.parameters(), *padded.parameters()] if p.requires_grad], lr=0.2)
for epoch in range(3):
    for text, offsets, ids, labels in DataLoader(documents, batch_size=6, shuffle=True, collate_fn=collate):
        a = nn.functional.cross_entropy(bags(text, offsets), labels)
        b = nn.functional.cross_entropy(padded(ids), labels)
        opt.zero_grad()
        (a + b).backward()
        opt.step()
        print(epoch, len(text), offsets.tolist(), f"{a.item():.9f} {b.item():.9f}")
torch.save([bags.state_dict(), padded.state_dict()], "embeddings.pt")
