from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)


@dataclass
class Batch:
    tokens: torch.Tensor
    mask: torch.Tensor
    target: torch.Tensor
    names: list[str]

    def to(self, device):
        return Batch(self.tokens.to(device), self.mask.to(device), self.target.to(device), self.names)


def collate(samples) -> Batch:
    longest = max(len(ids) for ids, _, _ in samples)
    tokens = torch.zeros(len(samples), longest, dtype=torch.long)
    for row, (ids, _, _) in enumerate(samples):
        tokens[row, : len(ids)] = torch.tensor(ids)
    return Batch(
        tokens=tokens,
        mask=tokens != 0,
        target=torch.tensor([t for _, t, _ in samples]),
        names=[n for _, _, n in samples],
    )


class BagOfWords(nn.Module):
    def __init__(self, vocab, width):
        super().__init__()
        self.emb = nn.Embedding(vocab, width, padding_idx=0)
        self.fc = nn.Linear(width, 2)

    def forward(self, batch: Batch):
        total = self.emb(batch.tokens).sum(1)
        return self.fc(total / batch.mask.sum(1, keepdim=True))


def main() -> None:
    torch.manual_seed(2)
    samples = []
    for i in range(30):
        ids = torch.randint(1, 20, (int(torch.randint(1, 8, ())),)).tolist()
        samples.append((ids, int(sum(ids) % 2), f"doc{i}"))
    loader = DataLoader(samples, batch_size=7, shuffle=True, collate_fn=collate)
    model = BagOfWords(20, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for epoch in range(2):
        for batch in loader:
            batch = batch.to("cpu")
            loss = nn.functional.cross_entropy(model(batch), batch.target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(epoch, batch.names[0], batch.tokens.shape[1], f"{loss.item():.9f}")
    torch.save(model.state_dict(), "bow.pt")


if __name__ == "__main__":
    main()
