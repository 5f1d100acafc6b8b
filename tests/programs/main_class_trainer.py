"""Everything in classes: configuration, trainer, callbacks, a registry of metrics."""
from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


@dataclass
class Config:
    lr: float = 0.05
    epochs: int = 3
    batch_size: int = 9
    widths: list = field(default_factory=lambda: [6, 12, 3])


class Callback:
    def on_batch_end(self, trainer): ...
    def on_epoch_end(self, trainer): ...


class History(Callback):
    def __init__(self):
        self.losses = []

    def on_batch_end(self, trainer):
        self.losses.append(trainer.loss.item())

    def on_epoch_end(self, trainer):
        n = len(trainer.loader)
        print(f"epoch {trainer.epoch}: mean {sum(self.losses[-n:]) / n:.9f}")


class SaveEvery(Callback):
    def on_epoch_end(self, trainer):
        torch.save(trainer.state(), f"epoch{trainer.epoch}.pt")


class Trainer:
    def __init__(self, config, callbacks):
        self.config, self.callbacks = config, callbacks
        layers = [m for a, b in zip(config.widths, config.widths[1:]) for m in (nn.Linear(a, b), nn.ReLU())]
        self.model = nn.Sequential(*layers[:-1])
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=config.lr)
        self.criterion = nn.CrossEntropyLoss()
        self.epoch = 0

    def state(self):
        return {"config": asdict(self.config), "model": self.model.state_dict(), "epoch": self.epoch}

    def step(self, batch):
        x, y = batch
        self.loss = self.criterion(self.model(x), y)
        self.optimizer.zero_grad()
        self.loss.backward()
        self.optimizer.step()

    def fit(self, dataset):
        self.loader = DataLoader(dataset, self.config.batch_size, shuffle=True)
        for self.epoch in range(self.config.epochs):
            for batch in self.loader:
                self.step(batch)
                self.fire("on_batch_end")
            self.fire("on_epoch_end")

    def fire(self, event):
        for callback in self.callbacks:
            getattr(callback, event)(self)


if __name__ == "__main__":
    torch.manual_seed(0)
    trainer = Trainer(Config(), [History(), SaveEvery()])
    trainer.fit(TensorDataset(torch.randn(40, 6), torch.randint(0, 3, (40,))))
