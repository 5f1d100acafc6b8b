"""Hugging Face style: config, output class, labels go in and the loss comes out of forward."""
from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import Optional

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class ModelOutput(OrderedDict):
    def __post_init__(self):
        for f in fields(self):
            if getattr(self, f.name) is not None:
                self[f.name] = getattr(self, f.name)

    def __getitem__(self, k):
        return dict(self.items())[k] if isinstance(k, str) else self.to_tuple()[k]

    def to_tuple(self):
        return tuple(self[k] for k in self.keys())


@dataclass
class SequenceClassifierOutput(ModelOutput):
    loss: Optional[torch.Tensor] = None
    logits: Optional[torch.Tensor] = None
    hidden_states: Optional[tuple] = None


@dataclass
class Config:
    vocab_size: int = 25
    hidden_size: int = 8
    num_labels: int = 3


class TinyBert(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=0)
        self.encoder = nn.Linear(config.hidden_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_ids=None, attention_mask=None, labels=None, return_dict=True):
        h = torch.tanh(self.encoder(self.embeddings(input_ids)))
        m = attention_mask.unsqueeze(-1).to(h.dtype)
        logits = self.classifier((h * m).sum(1) / m.sum(1))
        loss = None
        if labels is not None:
            loss_fct = nn.CrossEntropyLoss()
            loss = loss_fct(logits.view(-1, self.config.num_labels), labels.view(-1))
        if not return_dict:
            return (loss, logits) if loss is not None else (logits,)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=(h,))


class Encoded(Dataset):
    def __len__(self):
        return 37

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        n = int(torch.randint(2, 8, (), generator=g))
        ids = torch.zeros(8, dtype=torch.long)
        ids[:n] = torch.randint(1, 25, (n,), generator=g)
        labels = int(ids.sum()) % 3 if i % 5 else -100
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


torch.manual_seed(0)
model = TinyBert(Config())
optim = torch.optim.AdamW(model.parameters(), lr=5e-3)
for epoch in range(3):
    model.train()
    for batch in DataLoader(Encoded(), batch_size=8, shuffle=True):
        batch = {k: v.to("cpu") for k, v in batch.items()}
        outputs = model(**batch)
        loss = outputs.loss
        loss.backward()
        optim.step()
        optim.zero_grad()
        print(f"{loss.item():.9f}", tuple(outputs.logits.shape), tuple(outputs.hidden_states[0].shape))
    model.eval()
    right = total = 0
    for batch in DataLoader(Encoded(), batch_size=10):
        with torch.no_grad():
            loss, logits = model(**batch, return_dict=False)
        keep = batch["labels"] >= 0
        right += (logits.argmax(-1) == batch["labels"])[keep].sum().item()
        total += keep.sum().item()
    print(f"epoch {epoch} accuracy {right}/{total} last loss {loss:.9f}")
torch.save(model.state_dict(), "pytorch_model.bin")
