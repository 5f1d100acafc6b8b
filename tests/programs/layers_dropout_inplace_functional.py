"""Dropout in its other forms: functional, in place, of embeddings, of attention weights, 1d and 3d."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(30, 8)
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.out = nn.Linear(8, 30)
        self.spatial = nn.Dropout1d(0.2)

    def forward(self, t):
        x = F.dropout(self.emb(t), p=0.1, training=self.training)
        att = F.softmax(self.q(x) @ self.k(x).mT / 8**0.5, dim=-1)
        x = x + F.dropout(att, 0.2, self.training) @ self.v(x)
        x = self.spatial(x.mT).mT
        x = F.feature_alpha_dropout(x, 0.1, self.training)
        x = F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], dropout_p=0.1 if self.training else 0.0)[:, 0]
        x = F.dropout(F.gelu(x), 0.3, self.training, inplace=True)
        return self.out(x)


torch.manual_seed(5)
model = Model()
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for (t,) in DataLoader(TensorDataset(torch.randint(0, 30, (34, 7))), batch_size=8):
    logits = model(t[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), t[:, 1:].flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.9f}")
print(torch.rand(2).tolist())
torch.save(model.state_dict(), "dropouts.pt")
