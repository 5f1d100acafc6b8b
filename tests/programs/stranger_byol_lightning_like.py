"""A LightningModule-like class and its Trainer: hooks, logged values, several optimizers, a momentum target."""
import copy
import csv

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.logged = {}
        self.current_epoch = self.global_step = 0

    def log(self, name, value, prog_bar=False):
        self.logged[name] = float(value.detach() if isinstance(value, torch.Tensor) else value)

    def log_dict(self, values):
        for k, v in values.items():
            self.log(k, v)

    def on_train_batch_end(self): ...

    @property
    def device(self):
        return next(self.parameters()).device


class Trainer:
    def __init__(self, max_epochs, accumulate_grad_batches=1, gradient_clip_val=None, log_every_n_steps=1, path="metrics.csv"):
        self.max_epochs, self.accumulate, self.clip, self.every = max_epochs, accumulate_grad_batches, gradient_clip_val, log_every_n_steps
        self.path, self.rows = path, []

    def fit(self, module, train, val=None):
        optimizers, schedulers = module.configure_optimizers()
        for module.current_epoch in range(self.max_epochs):
            module.train()
            for i, batch in enumerate(train):
                batch = [b.to(module.device) for b in batch]
                loss = module.training_step(batch, i)
                loss = loss["loss"] if isinstance(loss, dict) else loss
                (loss / self.accumulate).backward()
                if (i + 1) % self.accumulate == 0 or i + 1 == len(train):
                    if self.clip:
                        nn.utils.clip_grad_norm_(module.parameters(), self.clip)
                    for o in optimizers:
                        o.step()
                        o.zero_grad()
                    module.global_step += 1
                module.on_train_batch_end()
                if i % self.every == 0:
                    self.rows.append({"epoch": module.current_epoch, "step": module.global_step, **{k: f"{v:.9f}" for k, v in module.logged.items()}})
                    print(self.rows[-1])
            for s in schedulers:
                s.step()
            if val is not None:
                module.eval()
                with torch.no_grad():
                    outs = [module.validation_step(b, i) for i, b in enumerate(val)]
                print("validation", f"{torch.stack(outs).mean().item():.9f}")
        with open(self.path, "w", newline="") as f:
            fields = sorted({k for row in self.rows for k in row})
            w = csv.DictWriter(f, fields)
            w.writeheader()
            w.writerows(self.rows)
        torch.save({"state_dict": module.state_dict(), "epoch": module.current_epoch, "optimizers": [o.state_dict() for o in optimizers]}, "last.ckpt")


def mlp(*sizes):
    return nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.BatchNorm1d(sizes[1]), nn.ReLU(), nn.Linear(sizes[1], sizes[2]))


class BYOL(Module):
    def __init__(self):
        super().__init__()
        self.online, self.predictor, self.probe = mlp(9, 14, 6), mlp(6, 8, 6), nn.Linear(6, 3)
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, x):
        return self.online(x)

    def augment(self, x):
        return x * (torch.rand_like(x) > 0.1) + 0.1 * torch.randn_like(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        a, b = self.augment(x), self.augment(x)
        pa, pb = self.predictor(self(a)), self.predictor(self(b))
        with torch.no_grad():
            ta, tb = self.target(a), self.target(b)
        loss = 2 - F.cosine_similarity(pa, tb).mean() - F.cosine_similarity(pb, ta).mean()
        probe = F.cross_entropy(self.probe(self(x).detach()), y)
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({"probe": probe, "std": F.normalize(ta, dim=1).std(0).mean()})
        return {"loss": loss + probe}

    def on_train_batch_end(self):
        with torch.no_grad():
            for o, t in zip(self.online.parameters(), self.target.parameters()):
                t.data = 0.9 * t.data + 0.1 * o.data

    def validation_step(self, batch, batch_idx):
        x, y = batch
        return (self.probe(self(x)).argmax(1) == y).double().mean()

    def configure_optimizers(self):
        main = torch.optim.SGD([*self.online.parameters(), *self.predictor.parameters()], lr=0.1, momentum=0.9)
        probe = torch.optim.Adam(self.probe.parameters(), lr=0.02)
        return [main, probe], [torch.optim.lr_scheduler.CosineAnnealingLR(main, 3)]


torch.manual_seed(0)
y = torch.randint(0, 3, (70,))
x = torch.randn(3, 9)[y] + 0.5 * torch.randn(70, 9)
train = DataLoader(TensorDataset(x[:50], y[:50]), batch_size=12, shuffle=True)
val = DataLoader(TensorDataset(x[50:], y[50:]), batch_size=8)
Trainer(max_epochs=3, accumulate_grad_batches=2, gradient_clip_val=1.0, log_every_n_steps=2).fit(BYOL(), train, val)
