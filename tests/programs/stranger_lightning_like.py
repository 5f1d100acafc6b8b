"""A Lightning-like framework in one file: LightningModule, DataModule, Trainer with callbacks, checkpoints, CSV logger."""

import os, csv, sys, inspect, warnings, contextlib, time
from abc import ABC
import torch, torch.nn as nn, torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

torch.set_default_dtype(torch.float64)


class LightningModule(nn.Module, ABC):
    def __init__(s):
        super().__init__()
        s.trainer = None
        s._logged = {}
        s.automatic_optimization = True

    def log(s, k, v, prog_bar=False, on_epoch=False):
        s._logged.setdefault(k, []).append(v.detach() if isinstance(v, torch.Tensor) else v)

    def log_dict(s, d, **k):
        [s.log(a, b, **k) for a, b in d.items()]

    def optimizers(s):
        return s.trainer.opts

    def manual_backward(s, l):
        l.backward()

    def save_hyperparameters(s):
        f = inspect.currentframe().f_back
        s.hparams = {k: v for k, v in f.f_locals.items() if k not in ("self", "__class__")}

    @property
    def device(s):
        return next(s.parameters()).device


class Callback:
    def on_train_epoch_end(s, tr, pl):
        pass

    def on_validation_end(s, tr, pl):
        pass


class EarlyStopping(Callback):
    def __init__(s, monitor, patience):
        s.m, s.p, s.best, s.wait = monitor, patience, float("inf"), 0

    def on_validation_end(s, tr, pl):
        v = tr.metrics[s.m]
        if v < s.best:
            s.best, s.wait = v, 0
        else:
            s.wait += 1
            if s.wait >= s.p:
                tr.should_stop = True


class ModelCheckpoint(Callback):
    def __init__(s, d, monitor):
        s.d, s.m, s.best, s.path = d, monitor, None, None

    def on_validation_end(s, tr, pl):
        v = tr.metrics[s.m]
        if s.best is None or v < s.best:
            if s.path:
                os.unlink(s.path)
            os.makedirs(s.d, exist_ok=True)
            s.best = v
            s.path = os.path.join(s.d, f"epoch={tr.epoch}-{s.m}={v:.4f}.ckpt")
            torch.save(
                {
                    "state_dict": pl.state_dict(),
                    "hparams": pl.hparams,
                    "optimizer_states": [o.state_dict() for o in tr.opts],
                },
                s.path,
            )


class Trainer:
    def __init__(s, max_epochs, callbacks=(), accumulate=1, clip=None):
        s.max_epochs, s.cbs, s.acc, s.clip = max_epochs, list(callbacks), accumulate, clip
        s.should_stop = False
        s.metrics = {}
        s.global_step = 0

    def fit(s, pl, dm):
        pl.trainer = s
        dm.prepare_data()
        dm.setup("fit")
        cfg = pl.configure_optimizers()
        s.opts, s.schs = ([cfg], []) if isinstance(cfg, torch.optim.Optimizer) else cfg
        s.rows = []
        s.epoch = -1
        s._val(pl, dm, limit=2)
        for s.epoch in range(s.max_epochs):
            pl.train()
            for i, batch in enumerate(dm.train_dataloader()):
                batch = s._move(batch)
                if not pl.automatic_optimization:
                    pl.training_step(batch, i)
                    s.global_step += 1
                    continue
                out = pl.training_step(batch, i)
                loss = out["loss"] if isinstance(out, dict) else out
                (loss / s.acc).backward()
                if (i + 1) % s.acc == 0:
                    if s.clip:
                        nn.utils.clip_grad_norm_(pl.parameters(), s.clip)
                    s.opts[0].step()
                    s.opts[0].zero_grad()
                    s.global_step += 1
            for c in s.cbs:
                c.on_train_epoch_end(s, pl)
            s._val(pl, dm)
            [x.step() for x in s.schs]
            s.rows.append(
                {"epoch": s.epoch, "step": s.global_step, **{k: f"{v:.9f}" for k, v in s.metrics.items()}}
            )
            print(s.rows[-1])
            if s.should_stop:
                print("stopped")
                break
        with open("metrics.csv", "w") as f:
            w = csv.DictWriter(f, s.rows[0].keys())
            w.writeheader()
            w.writerows(s.rows)

    def _move(s, b):
        return tuple(x.to("cpu", non_blocking=True) for x in b)

    @torch.inference_mode()
    def _val(s, pl, dm, limit=None):
        pl.eval()
        for i, b in enumerate(dm.val_dataloader()):
            if limit is not None and i >= limit:
                break
            pl.validation_step(s._move(b), i)
        s.metrics = {k: float(sum(v) / len(v)) for k, v in pl._logged.items()}
        pl._logged = {}
        if limit is None:
            [c.on_validation_end(s, pl) for c in s.cbs]


class DM:
    def prepare_data(s):
        torch.manual_seed(11)
        torch.save((torch.randn(90, 12), torch.randint(0, 4, (90,))), "data.pt")

    def setup(s, stage):
        x, y = torch.load("data.pt")
        s.tr, s.va = TensorDataset(x[:70], y[:70]), TensorDataset(x[70:], y[70:])

    def train_dataloader(s):
        return DataLoader(s.tr, 14, shuffle=True)

    def val_dataloader(s):
        return DataLoader(s.va, 8)


class Lit(LightningModule):
    def __init__(self, hidden=16, lr=1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(12, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 4)
        )

    def forward(self, x):
        return self.net(x)

    def step(self, b):
        x, y = b
        o = self(x)
        return F.cross_entropy(o, y), (o.argmax(1) == y).double().mean()

    def training_step(self, b, i):
        l, a = self.step(b)
        self.log_dict({"train_loss": l, "train_acc": a})
        return {"loss": l}

    def validation_step(self, b, i):
        l, a = self.step(b)
        self.log("val_loss", l, prog_bar=True)
        self.log("val_acc", a)

    def configure_optimizers(self):
        o = torch.optim.AdamW(self.parameters(), self.hparams["lr"])
        return [o], [torch.optim.lr_scheduler.CosineAnnealingLR(o, 4)]


class GanLit(Lit):
    def __init__(self, hidden=8):
        super().__init__(hidden)
        self.automatic_optimization = False
        self.d = nn.Linear(4, 1)

    def configure_optimizers(self):
        return [torch.optim.SGD(self.net.parameters(), 0.05), torch.optim.SGD(self.d.parameters(), 0.05)], []

    def training_step(self, b, i):
        a, c = self.optimizers()
        x, y = b
        o = self(x)
        d = self.d(o.detach()).mean()
        c.zero_grad()
        self.manual_backward(d.pow(2) + 1e-2 * self.d.weight.norm())
        c.step()
        a.zero_grad()
        l = F.cross_entropy(o, y) - 0.1 * self.d(o).mean()
        self.manual_backward(l)
        a.step()
        self.log("train_loss", l)


torch.manual_seed(1)
Trainer(4, [EarlyStopping("val_loss", 1), ModelCheckpoint("ckpts", "val_loss")], accumulate=2, clip=0.5).fit(
    Lit(), DM()
)
Trainer(2).fit(GanLit(), DM())
print(sorted(os.listdir("ckpts")))
