"""nn.TransformerEncoder with positions, padding mask and dropout, trained and evaluated."""
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, dropout=0.1, max_len=50):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(1, max_len, d_model)
        pe[0, :, 0::2] = torch.sin(position * div_term)
        pe[0, :, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return self.dropout(x + self.pe[:, : x.size(1)])


class Classifier(nn.Module):
    def __init__(self, vocab, d):
        super().__init__()
        self.emb = nn.Embedding(vocab, d, padding_idx=0)
        self.pos = PositionalEncoding(d)
        layer = nn.TransformerEncoderLayer(d, nhead=2, dim_feedforward=16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.cls = nn.Parameter(torch.zeros(1, 1, d))
        self.fc = nn.Linear(d, 3)

    def forward(self, tokens):
        pad = tokens == 0
        x = self.pos(self.emb(tokens) * math.sqrt(8))
        x = torch.cat([self.cls.expand(x.size(0), -1, -1), x], 1)
        pad = torch.cat([pad.new_zeros(pad.size(0), 1), pad], 1)
        return self.fc(self.encoder(x, src_key_padding_mask=pad)[:, 0])


torch.manual_seed(0)
tokens = torch.randint(1, 20, (35, 9)) * (torch.arange(9) < torch.randint(1, 10, (35, 1)))
labels = tokens.sum(1) % 3
net = Classifier(20, 8)
opt = torch.optim.AdamW(net.parameters(), lr=3e-3)
for epoch in range(2):
    net.train()
    for t, y in DataLoader(TensorDataset(tokens, labels), batch_size=8, shuffle=True):
        loss = nn.functional.cross_entropy(net(t), y)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        print(epoch, f"{loss.item():.9f}")
    net.eval()
    with torch.no_grad():
        outs = torch.cat([net(t) for (t,) in DataLoader(TensorDataset(tokens), batch_size=20)])
    print("eval", f"{nn.functional.cross_entropy(outs, labels).item():.9f}")
torch.save(net.state_dict(), "encoder.pt")
