"""Sequences as long as the longest of a batch: packed, cut by their lengths, normalised."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)


class Packed(nn.Module):
    """With batch normalisation over all places, padded ones too, and dropout."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.rnn = nn.LSTM(6, 8, batch_first=True, bidirectional=True)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(16, 3)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embed(tokens), lengths, True, enforce_sorted=False)
        x, lengths = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(self.drop(self.norm(x.transpose(1, 2)).transpose(1, 2)))


class Cut(nn.Module):
    """Goes on with as many places as the longest needs; `wide`: what it returns is large."""

    def __init__(self, wide):
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(6, 4000 if wide else 3)

    def forward(self, tokens, lengths):
        x = self.drop(self.embed(tokens[:, : int(lengths.max())]))
        return self.out(x)


class Pooled(Cut):
    """What it returns has the same shape for all lengths; what it draws has not."""

    def forward(self, tokens, lengths):
        return super().forward(tokens, lengths).sum(1, keepdim=True)


class Pure(Cut):
    """Neither draws nor keeps anything."""

    def forward(self, tokens, lengths):
        return self.out(self.embed(tokens[:, : int(lengths.max())]))


def collate(samples):
    lengths = torch.tensor([len(sample) for sample in samples])
    # padded further than it need be, as by a loader that knows the longest of all
    return nn.functional.pad(pad_sequence(samples, batch_first=True), (0, 3)), lengths


torch.manual_seed(0)
# the first batches are of one length: what is found out about them holds for others by chance
sizes = [9] * 24 + torch.randint(2, 12, (48,)).tolist()
samples = [torch.randint(1, 20, (size,)) for size in sizes]
models = {
    "packed": Packed,
    "cut": lambda: Cut(wide=False),
    "wide": lambda: Cut(wide=True),
    "pooled": lambda: Pooled(wide=False),
    "pure": lambda: Pure(wide=False),
}
for name, make in models.items():
    torch.manual_seed(1)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(2):
        for tokens, lengths in DataLoader(samples, batch_size=8, collate_fn=collate):
            output = model(tokens, lengths)
            loss = output.pow(2).mean() + output.sum(1).tanh().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(name, tuple(output.shape), f"{loss.item():.9f}")
