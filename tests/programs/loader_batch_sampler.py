"""Bucket rows of like length; batches of different sizes come from the batch sampler."""
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Sequences(Dataset):
    def __init__(self, n=40):
        g = torch.Generator().manual_seed(0)
        self.lengths = torch.randint(2, 9, (n,), generator=g).tolist()
        self.items = [torch.randn(length, 3, generator=g) for length in self.lengths]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        seq = self.items[index]
        return seq, seq.sum() > 0


class Buckets:
    def __init__(self, lengths, max_tokens):
        self.batches, batch = [], []
        for i in sorted(range(len(lengths)), key=lengths.__getitem__):
            if batch and (len(batch) + 1) * lengths[i] > max_tokens:
                self.batches.append(batch)
                batch = []
            batch.append(i)
        self.batches.append(batch)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for k in torch.randperm(len(self.batches)).tolist():
            yield self.batches[k]


def collate(samples):
    seqs, flags = zip(*samples)
    return pad_sequence(seqs, batch_first=True), torch.stack(flags).double()


class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.out = nn.Linear(6, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.embed(x)).sum(1))[:, 0]


torch.manual_seed(1)
data = Sequences()
loader = DataLoader(data, batch_sampler=Buckets(data.lengths, 24), collate_fn=collate)
model = Scorer()
optim = torch.optim.Adagrad(model.parameters(), lr=0.1)
for epoch in range(2):
    for seqs, flags in loader:
        loss = nn.functional.binary_cross_entropy_with_logits(model(seqs), flags)
        optim.zero_grad()
        loss.backward()
        optim.step()
        print(epoch, list(seqs.shape), f"{loss.item():.9f}")
torch.save(model.state_dict(), "scorer.pt")
