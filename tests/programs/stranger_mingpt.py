"""minGPT: CfgNode-like configuration, a Trainer with callbacks, an endless sampler with replacement."""
from collections import defaultdict

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torch.utils.data.dataloader import DataLoader

torch.set_default_dtype(torch.float64)


class CfgNode:
    def __init__(self, **kwargs):
        self.__dict__.update(kwargs)


class SortDataset(Dataset):
    """Dataset for the Sort problem: input 0 0 2 1 0 1 -> output I I I I I 0 0 0 1 1 2"""

    def __init__(self, split, length=4, num_digits=3):
        self.split, self.length, self.num_digits = split, length, num_digits

    def __len__(self):
        return 10000

    def get_block_size(self):
        return self.length * 2 - 1

    def __getitem__(self, idx):
        inp = torch.randint(self.num_digits, size=(self.length,), dtype=torch.long)
        if torch.rand(1).item() < 0.5:
            inp[0] = inp[-1]
        sol = torch.sort(inp)[0]
        cat = torch.cat((inp, sol), dim=0)
        x = cat[:-1].clone()
        y = cat[1:].clone()
        y[: self.length - 1] = -1  # mask the loss at input locations
        return x, y


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(config.n_embd), nn.LayerNorm(config.n_embd)
        self.attn = nn.MultiheadAttention(config.n_embd, config.n_head, config.attn_pdrop, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd), nn.GELU(), nn.Linear(4 * config.n_embd, config.n_embd), nn.Dropout(config.resid_pdrop)
        )
        mask = torch.triu(torch.ones(config.block_size, config.block_size, dtype=torch.bool), 1)
        self.register_buffer("mask", mask)

    def forward(self, x):
        y, t = self.ln_1(x), x.size(1)
        x = x + self.attn(y, y, y, attn_mask=self.mask[:t, :t], need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.block_size = config.block_size
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Parameter(torch.zeros(1, config.block_size, config.n_embd))
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.Sequential(*[Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, idx, targets=None):
        x = self.drop(self.wte(idx) + self.wpe[:, : idx.size(1)])
        logits = self.lm_head(self.ln_f(self.h(x)))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        return logits, loss

    @torch.no_grad()
    def generate(self, idx, max_new_tokens, do_sample=False):
        for _ in range(max_new_tokens):
            logits, _ = self(idx[:, -self.block_size :])
            probs = F.softmax(logits[:, -1, :], dim=-1)
            idx_next = torch.multinomial(probs, num_samples=1) if do_sample else torch.topk(probs, k=1, dim=-1)[1]
            idx = torch.cat((idx, idx_next), dim=1)
        return idx


class Trainer:
    def __init__(self, config, model, train_dataset):
        self.config, self.model, self.train_dataset = config, model, train_dataset
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=config.betas)
        self.callbacks = defaultdict(list)
        self.iter_num = 0

    def set_callback(self, onevent, callback):
        self.callbacks[onevent] = [callback]

    def trigger_callbacks(self, onevent):
        for callback in self.callbacks.get(onevent, []):
            callback(self)

    def run(self):
        model, config = self.model, self.config
        train_loader = DataLoader(
            self.train_dataset,
            sampler=torch.utils.data.RandomSampler(self.train_dataset, replacement=True, num_samples=int(1e10)),
            shuffle=False,
            pin_memory=False,
            batch_size=config.batch_size,
            num_workers=config.num_workers,
        )
        model.train()
        data_iter = iter(train_loader)
        while True:
            try:
                batch = next(data_iter)
            except StopIteration:
                data_iter = iter(train_loader)
                batch = next(data_iter)
            x, y = [t.to("cpu") for t in batch]
            logits, self.loss = model(x, y)
            model.zero_grad(set_to_none=True)
            self.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_norm_clip)
            self.optimizer.step()
            self.trigger_callbacks("on_batch_end")
            self.iter_num += 1
            if self.iter_num >= config.max_iters:
                break


torch.manual_seed(3407)
train_dataset = SortDataset("train")
config = CfgNode(
    n_layer=2, n_head=2, n_embd=12, vocab_size=3, block_size=train_dataset.get_block_size(),
    embd_pdrop=0.1, resid_pdrop=0.1, attn_pdrop=0.1,
)
model = GPT(config)
trainer = Trainer(
    CfgNode(learning_rate=5e-3, betas=(0.9, 0.95), batch_size=10, grad_norm_clip=1.0, num_workers=0, max_iters=14), model, train_dataset
)
trainer.set_callback("on_batch_end", lambda t: print(f"iter {t.iter_num}: train loss {t.loss.item():.9f}"))
trainer.run()
model.eval()
loader = DataLoader(SortDataset("test"), batch_size=20, num_workers=0)
for b, (x, y) in enumerate(loader):
    n = 4
    cat = model.generate(x[:, :n], n)
    correct = (x[:, :n].sort()[0] == cat[:, n:]).all(1)
    print(b, int(correct.sum()), "of", len(x), cat[0].tolist())
    if b == 1:
        break
torch.save(model.state_dict(), "mingpt.pt")
