"""MultiheadAttention with key padding, a causal mask and dropout; returned attention weights."""
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
sequences = [torch.randn(int(n), 8) for n in torch.randint(2, 9, (26,))]


def collate(batch):
    lengths = torch.tensor([len(s) for s in batch])
    x = pad_sequence(batch, batch_first=True)
    return x, torch.arange(x.size(1))[None] >= lengths[:, None]


class Attend(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.mha = nn.MultiheadAttention(8, 2, dropout=dropout, batch_first=True)
        self.first = nn.MultiheadAttention(8, 4, dropout=dropout)  # time first
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 8)

    def forward(self, x, padding, causal):
        a, weights = self.mha(x, x, x, key_padding_mask=padding, attn_mask=causal)
        x = self.norm(x + a)
        b, _ = self.first(x.transpose(0, 1), x.transpose(0, 1), x.transpose(0, 1), key_padding_mask=padding, need_weights=False)
        return self.out(x + b.transpose(0, 1)), weights


for dropout in (0.0, 0.2):
    torch.manual_seed(1)
    model = Attend(dropout)
    opt = torch.optim.Adam(model.parameters(), lr=0.01)
    for x, padding in DataLoader(sequences, batch_size=7, collate_fn=collate):
        causal = torch.triu(torch.ones(x.size(1), x.size(1), dtype=torch.bool), 1)
        out, weights = model(x, padding, causal)
        keep = ~padding
        loss = (out - x.cumsum(1))[keep].pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(dropout, list(x.shape), list(weights.shape), f"{loss.item():.9f} {weights.sum().item():.9f}")
    torch.save(model.state_dict(), f"attend{dropout}.pt")
