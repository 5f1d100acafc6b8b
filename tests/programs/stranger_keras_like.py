# tolerance: 1e-8 (a bias before batch normalisation has no gradient but rounding, which Adam scales up)
"""A Keras-like wrapper somebody wrote: compile, fit with callbacks and a bar, evaluate, predict."""
import sys

import numpy as np
import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

torch.set_default_dtype(torch.float64)
torch.manual_seed(7)


class ProgressBar:
    def __init__(self, total, width=20):
        self.total, self.width = total, width

    def update(self, n, **values):
        done = self.width * n // self.total
        text = " - ".join(f"{k}: {v:.6f}" for k, v in values.items())
        sys.stdout.write(f"\r{n}/{self.total} [{'=' * done}{'.' * (self.width - done)}] - {text}")
        if n == self.total:
            sys.stdout.write("\n")
        sys.stdout.flush()


class History(dict):
    def append(self, **logs):
        for k, v in logs.items():
            self.setdefault(k, []).append(v)


class EarlyStopping:
    def __init__(self, monitor, patience):
        self.monitor, self.patience, self.best, self.wait = monitor, patience, np.inf, 0

    def __call__(self, model, logs):
        if logs[self.monitor] < self.best:
            self.best, self.wait = logs[self.monitor], 0
            return False
        self.wait += 1
        return self.wait > self.patience


class ModelCheckpoint:
    def __init__(self, path):
        self.path, self.best = path, np.inf

    def __call__(self, model, logs):
        if logs["val_loss"] < self.best:
            self.best = logs["val_loss"]
            torch.save(model.net.state_dict(), self.path)
        return False


METRICS = {
    "accuracy": lambda out, y: (out.argmax(1) == y).double().mean(),
    "confidence": lambda out, y: out.softmax(1).max(1).values.mean(),
}


class Model:
    def __init__(self, net):
        self.net = net

    def compile(self, optimizer, loss, metrics=()):
        self.optimizer, self.loss, self.metrics = optimizer, loss, metrics

    def _loader(self, data, batch_size, shuffle):
        if not isinstance(data, Dataset):
            data = TensorDataset(*(torch.as_tensor(d) for d in data))
        return DataLoader(data, batch_size, shuffle)

    def _pass(self, loader, training, bar=None):
        self.net.train(training)
        sums, seen = {}, 0
        for n, (x, y) in enumerate(loader, 1):
            with torch.set_grad_enabled(training):
                out = self.net(x)
                loss = self.loss(out, y)
            if training:
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            logs = {"loss": loss.item(), **{m: METRICS[m](out.detach(), y).item() for m in self.metrics}}
            seen += len(x)
            for k, v in logs.items():
                sums[k] = sums.get(k, 0.0) + v * len(x)
            if bar:
                bar.update(n, **{k: v / seen for k, v in sums.items()})
        return {k: v / seen for k, v in sums.items()}

    def fit(self, data, epochs, batch_size=16, validation_data=None, callbacks=()):
        history = History()
        loader = self._loader(data, batch_size, True)
        for epoch in range(epochs):
            print(f"Epoch {epoch + 1}/{epochs}")
            logs = self._pass(loader, True, ProgressBar(len(loader)))
            if validation_data is not None:
                logs |= {f"val_{k}": v for k, v in self.evaluate(validation_data).items()}
            history.append(**logs)
            if any([callback(self, logs) for callback in callbacks]):
                print("stopped early")
                break
        return history

    def evaluate(self, data, batch_size=64):
        return self._pass(self._loader(data, batch_size, False), False)

    def predict(self, x, batch_size=10):
        self.net.eval()
        with torch.no_grad():
            return torch.cat([self.net(b) for b in torch.as_tensor(x).split(batch_size)]).numpy()


X, y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
dataset = TensorDataset(torch.tensor(X), torch.tensor(y))
train, val = random_split(dataset, [120, 30])
net = nn.Sequential(nn.Linear(4, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 3))
model = Model(net)
model.compile(torch.optim.Adam(net.parameters(), lr=0.02), nn.CrossEntropyLoss(), ["accuracy", "confidence"])
history = model.fit(train, 4, validation_data=val, callbacks=[EarlyStopping("val_loss", 1), ModelCheckpoint("best.pt")])
print({k: [round(v, 6) for v in vs] for k, vs in history.items()})
print(model.evaluate((X, y)))
np.save("predictions.npy", model.predict(X))
