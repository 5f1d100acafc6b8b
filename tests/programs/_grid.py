"""Trains the cases of cases.json one after another; test_exactness_grid.py writes them and runs this."""
import json

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
CLASSES, TOKENS, STEPS = 4, 15, 6  # classes, words of the vocabulary, length of a sequence


class Recurrent(nn.Module):
    """Batch first or time first."""

    def __init__(self, kind, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.rnn = kind(3, 5, batch_first=batch_first)
        self.out = nn.Linear(5, CLASSES)

    def forward(self, x):
        y, _ = self.rnn(x if self.batch_first else x.transpose(0, 1))
        return self.out(y[:, -1] if self.batch_first else y[-1])


class Attention(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.inp = nn.Linear(3, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout, batch_first=True)
        self.out = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.out(self.layer(self.inp(x)).mean(1))


class Words(nn.Module):
    def __init__(self, tied):
        super().__init__()
        self.emb = nn.Embedding(TOKENS, 6, padding_idx=0)
        self.mix = nn.Linear(6, 6)
        self.out = nn.Linear(6, TOKENS)
        if tied:
            self.out.weight = self.emb.weight

    def forward(self, t):
        h = torch.tanh(self.mix(self.emb(t).mean(1)))
        return self.out(h)[:, :CLASSES]


class Reparameterized(nn.Module):
    def __init__(self):
        super().__init__()
        self.mu, self.logvar, self.out = nn.Linear(18, 4), nn.Linear(18, 4), nn.Linear(4, CLASSES)

    def forward(self, x):
        x = x.flatten(1)
        mu, logvar = self.mu(x), self.logvar(x)
        return self.out(mu + torch.randn_like(mu) * (0.5 * logvar).exp())


class Coupled(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(18, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        h = torch.relu(self.a(x.flatten(1)))
        return self.b(h - h.mean(0))


def images(*layers):
    return nn.Sequential(nn.Unflatten(1, (1, STEPS)), *layers)


MODELS = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(18, CLASSES)),
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(18, 9), nn.ReLU(), nn.Linear(9, CLASSES)),
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Linear(18, 12), nn.Tanh(), nn.Dropout(0.4), nn.Linear(12, CLASSES)),
    "batchnorm": lambda: nn.Sequential(nn.Flatten(), nn.Linear(18, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES)),
    "conv": lambda: images(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(40, CLASSES)),
    "conv_batchnorm": lambda: images(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout2d(0.2), nn.Flatten(), nn.Linear(30, CLASSES)),
    "norms": lambda: images(nn.Conv2d(1, 4, 2), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(), nn.LayerNorm(40), nn.Linear(40, CLASSES)),
    "gru": lambda: Recurrent(nn.GRU, True),
    "lstm_time_first": lambda: Recurrent(nn.LSTM, False),
    "attention": lambda: Attention(0.0),
    "attention_dropout": lambda: Attention(0.2),
    "words": lambda: Words(False),
    "tied": lambda: Words(True),
    "reparameterized": Reparameterized,
    "coupled": Coupled,
}


def contrastive(out, y, w):
    z = F.normalize(out, dim=1)
    same = y[:, None] == y[None]
    return ((z @ z.T - same.double()) ** 2).mean() + F.cross_entropy(out, y)


def masked(out, y, w):
    keep = w > 0.4
    losses = F.cross_entropy(out, y, reduction="none")
    return (losses * keep).sum() / keep.sum().clamp(min=1)


LOSSES = {
    "mean": lambda out, y, w: F.cross_entropy(out, y),
    "sum": lambda out, y, w: F.cross_entropy(out, y, reduction="sum") / 10,
    "weighted_rows": lambda out, y, w: (F.cross_entropy(out, y, reduction="none") * w).sum() / w.sum(),
    "class_weights": lambda out, y, w: F.cross_entropy(out, y, weight=torch.arange(1.0, CLASSES + 1)),
    "smoothing": lambda out, y, w: F.cross_entropy(out, y, label_smoothing=0.1),
    "ignore_index": lambda out, y, w: F.cross_entropy(out, torch.where(w > 0.3, y, -100), ignore_index=-100, reduction="sum") / (w > 0.3).sum().clamp(min=1),
    "mse": lambda out, y, w: F.mse_loss(out, F.one_hot(y, CLASSES).double()),
    "contrastive": contrastive,
    "masked": masked,
    "variance": lambda out, y, w: F.multi_margin_loss(out, y) + 0.1 * out.var(0, unbiased=False).sum() + out.logsumexp((0, 1)) * 0.01,
}


def by_hand(params, lr=0.05):
    class Update:
        def zero_grad(self):
            for p in params:
                p.grad = None

        def step(self):
            for p in params:
                p.data.add_(p.grad, alpha=-lr)

    return Update()


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05),
    "momentum": lambda p: torch.optim.SGD(p, 0.03, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.005, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.02, eps=1e-6),
    "by_hand": by_hand,
}


def batches(case, data):
    if case["source"] == "slices":
        for order in torch.randperm(case["rows"]).split(case["batch"]):
            if len(order) == case["batch"] or not case["drop_last"]:
                yield [t[order] for t in data]
    else:
        workers = 1 if case["source"] == "loader_process" else 0
        yield from DataLoader(TensorDataset(*data), case["batch"], shuffle=True, drop_last=case["drop_last"], num_workers=workers)


def train(number, case):
    torch.manual_seed(case["seed"])
    model = MODELS[case["model"]]()
    rows = case["rows"]
    words = case["model"] in ("words", "tied")
    x = torch.randint(0, TOKENS, (rows, STEPS)) if words else torch.randn(rows, STEPS, 3)
    data = (x, torch.randint(0, CLASSES, (rows,)), torch.rand(rows))
    params = list(model.parameters())
    opt = OPTIMIZERS[case["optimizer"]](params)
    name = f"case {number} {case['model']} {case['loss']} {case['optimizer']} {case['source']}"
    opt.zero_grad()
    for step, (x, y, w) in enumerate(batches(case, data), 1):
        out = model(x)
        loss = LOSSES[case["loss"]](out, y, w) / case["accumulate"]
        loss.backward()
        right = (out.argmax(1) == y).sum().item()
        print(name, f"step {step} rows {len(x)}/{rows} right {right} loss {loss.item():.12f}")
        if step % case["accumulate"] == 0:
            if case["clip"]:
                norm = nn.utils.clip_grad_norm_(params, 0.5)
                print(name, f"norm {norm.item():.12f}")
            opt.step()
            opt.zero_grad()
    model.eval()
    with torch.no_grad():
        print(name, f"eval {model(data[0]).sum().item():.12f} next random {torch.rand(1).item():.12f}")
    return model.state_dict()


if __name__ == "__main__":
    with open("cases.json") as f:
        cases = json.load(f)
    torch.save([train(number, case) for number, case in enumerate(cases)], "weights.pt")
