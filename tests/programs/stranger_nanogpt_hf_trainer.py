"""A hand-written trainer in the HF style: ModelOutput, callbacks, grad accumulation, autocast bf16, safetensors-free save."""

import os, json, math, inspect, time, random
from collections import OrderedDict
from dataclasses import dataclass, field, asdict
from typing import Optional, Any
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler
from torch.nn.utils.rnn import pad_sequence

torch.set_default_dtype(torch.float64)


class ModelOutput(OrderedDict):
    def __post_init__(self):
        for k, v in self.__dict__.copy().items():
            if v is not None:
                super().__setitem__(k, v)

    def __getitem__(self, k):
        return dict(self.items())[k] if isinstance(k, str) else self.to_tuple()[k]

    def to_tuple(self):
        return tuple(self[k] for k in self.keys())


@dataclass
class LMOutput(ModelOutput):
    loss: Optional[torch.Tensor] = None
    logits: Optional[torch.Tensor] = None
    hidden_states: Optional[Any] = None

    def __post_init__(self):
        ModelOutput.__post_init__(self)


@dataclass
class TrainingArguments:
    output_dir: str = "out"
    per_device_train_batch_size: int = 6
    gradient_accumulation_steps: int = 2
    num_train_epochs: int = 2
    learning_rate: float = 5e-3
    weight_decay: float = 0.1
    warmup_ratio: float = 0.1
    max_grad_norm: float = 1.0
    logging_steps: int = 3
    save_steps: int = 6
    seed: int = 42
    save_total_limit: int = 1


class Config:
    def __init__(s, **k):
        s.__dict__.update(k)

    def to_json(s):
        return json.dumps(s.__dict__, sort_keys=True)


class Block(nn.Module):
    def __init__(s, c):
        super().__init__()
        s.ln1, s.ln2 = nn.LayerNorm(c.d), nn.LayerNorm(c.d)
        s.qkv = nn.Linear(c.d, 3 * c.d)
        s.o = nn.Linear(c.d, c.d)
        s.mlp = nn.Sequential(nn.Linear(c.d, 2 * c.d), nn.GELU(), nn.Linear(2 * c.d, c.d), nn.Dropout(c.drop))
        s.h = c.h

    def forward(s, x, mask):
        B, T, D = x.shape
        q, k, v = s.qkv(s.ln1(x)).view(B, T, 3, s.h, D // s.h).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + s.o(a.transpose(1, 2).reshape(B, T, D))
        return x + s.mlp(s.ln2(x))


class LM(nn.Module):
    def __init__(s, c):
        super().__init__()
        s.config = c
        s.wte = nn.Embedding(c.v, c.d)
        s.wpe = nn.Embedding(c.t, c.d)
        s.h = nn.ModuleList(Block(c) for _ in range(c.n))
        s.lnf = nn.LayerNorm(c.d)
        s.lm_head = nn.Linear(c.d, c.v, bias=False)
        s.lm_head.weight = s.wte.weight
        s.apply(s._init)

    def _init(s, m):
        if isinstance(m, (nn.Linear, nn.Embedding)):
            nn.init.normal_(m.weight, std=0.05)

    def forward(
        s, input_ids=None, attention_mask=None, labels=None, output_hidden_states=False, return_dict=True
    ):
        B, T = input_ids.shape
        pos = torch.arange(T)[None]
        x = s.wte(input_ids) + s.wpe(pos)
        causal = torch.ones(T, T, dtype=torch.bool).tril()[None, None]
        mask = causal & attention_mask[:, None, None, :].bool() | torch.eye(T, dtype=torch.bool)
        hs = [x]
        for b in s.h:
            x = b(x, mask)
            hs.append(x)
        logits = s.lm_head(s.lnf(x))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(
                logits[:, :-1].reshape(-1, logits.size(-1)), labels[:, 1:].reshape(-1), ignore_index=-100
            )
        if not return_dict:
            return (loss, logits)
        return LMOutput(loss=loss, logits=logits, hidden_states=tuple(hs) if output_hidden_states else None)


class Text(Dataset):
    def __init__(s, n):
        r = random.Random(0)
        s.d = [[r.randrange(3, 20) for _ in range(r.randint(4, 9))] for _ in range(n)]

    def __len__(s):
        return len(s.d)

    def __getitem__(s, i):
        return {"input_ids": s.d[i], "labels": list(s.d[i])}


class Collator:
    def __call__(s, f):
        ids = pad_sequence([torch.tensor(x["input_ids"]) for x in f], batch_first=True, padding_value=0)
        lab = pad_sequence([torch.tensor(x["labels"]) for x in f], batch_first=True, padding_value=-100)
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": lab}


class Callback:
    def on_log(s, st, logs):
        print({k: round(v, 9) if isinstance(v, float) else v for k, v in logs.items()})


class Trainer:
    def __init__(s, model, args, train, ev, collate):
        s.model, s.args, s.train_ds, s.ev_ds, s.collate = model, args, train, ev, collate
        s.cbs = [Callback()]
        s.state = {"global_step": 0, "log_history": []}
        s._sig = list(inspect.signature(model.forward).parameters)

    def get_optim(s):
        decay = [p for n, p in s.model.named_parameters() if p.dim() > 1]
        no = [p for n, p in s.model.named_parameters() if p.dim() <= 1]
        return torch.optim.AdamW(
            [{"params": decay, "weight_decay": s.args.weight_decay}, {"params": no, "weight_decay": 0.0}],
            lr=s.args.learning_rate,
        )

    def train(s):
        a = s.args
        g = torch.Generator()
        g.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
        dl = DataLoader(
            s.train_ds,
            a.per_device_train_batch_size,
            sampler=RandomSampler(s.train_ds, generator=g),
            collate_fn=s.collate,
        )
        opt = s.get_optim()
        total = math.ceil(len(dl) / a.gradient_accumulation_steps) * a.num_train_epochs
        wu = math.ceil(total * a.warmup_ratio)
        sch = torch.optim.lr_scheduler.LambdaLR(
            opt, lambda t: t / max(1, wu) if t < wu else max(0.0, (total - t) / max(1, total - wu))
        )
        tr_loss = torch.tensor(0.0)
        s.model.zero_grad()
        for ep in range(a.num_train_epochs):
            for step, inputs in enumerate(dl):
                s.model.train()
                inputs = {k: v for k, v in inputs.items() if k in s._sig}
                out = s.model(**inputs)
                loss = out["loss"] if isinstance(out, dict) else out[0]
                (loss / a.gradient_accumulation_steps).backward()
                tr_loss += loss.detach() / a.gradient_accumulation_steps
                if (step + 1) % a.gradient_accumulation_steps == 0 or step + 1 == len(dl):
                    gn = nn.utils.clip_grad_norm_(s.model.parameters(), a.max_grad_norm)
                    opt.step()
                    sch.step()
                    s.model.zero_grad()
                    s.state["global_step"] += 1
                    if s.state["global_step"] % a.logging_steps == 0:
                        s.log(
                            {
                                "loss": tr_loss.item(),
                                "grad_norm": gn.item(),
                                "learning_rate": sch.get_last_lr()[0],
                                "epoch": ep + (step + 1) / len(dl),
                            }
                        )
                        tr_loss -= tr_loss
                    if s.state["global_step"] % a.save_steps == 0:
                        s.save(opt, sch)
            s.log(s.evaluate())

    def evaluate(s):
        s.model.eval()
        ls, corr, n = [], 0, 0
        with torch.no_grad():
            for inputs in DataLoader(s.ev_ds, 4, sampler=SequentialSampler(s.ev_ds), collate_fn=s.collate):
                o = s.model(**inputs, output_hidden_states=True)
                ls.append(o.loss.repeat(len(inputs["input_ids"])))
                p = o.logits[:, :-1].argmax(-1)
                m = inputs["labels"][:, 1:] != -100
                corr += (p[m] == inputs["labels"][:, 1:][m]).sum().item()
                n += m.sum().item()
                h = o.hidden_states[-1].norm().item()
        return {
            "eval_loss": torch.cat(ls).mean().item(),
            "eval_acc": corr / n,
            "eval_ppl": math.exp(torch.cat(ls).mean().item()),
            "h": h,
        }

    def log(s, l):
        s.state["log_history"].append({**l, "step": s.state["global_step"]})
        [c.on_log(s.state, l) for c in s.cbs]

    def save(s, opt, sch):
        d = os.path.join(s.args.output_dir, f"checkpoint-{s.state['global_step']}")
        os.makedirs(d)
        torch.save(s.model.state_dict(), os.path.join(d, "pytorch_model.bin"))
        torch.save(opt.state_dict(), os.path.join(d, "optimizer.pt"))
        with open(os.path.join(d, "trainer_state.json"), "w") as f:
            json.dump(s.state, f, indent=2)
        open(os.path.join(d, "config.json"), "w").write(s.model.config.to_json())


random.seed(42)
np.random.seed(42)
torch.manual_seed(42)
t = Trainer(
    LM(Config(v=20, d=16, t=16, h=2, n=2, drop=0.1)), TrainingArguments(), Text(40), Text(10), Collator()
)
t.train()
print(t.state["global_step"], sorted(os.listdir("out")))
