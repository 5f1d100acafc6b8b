# args: --epochs 3 --mixup 0.4 --smoothing 0.1 --model-ema --drop-path 0.2 --clip-grad 1.0 --output out
# ignore: Time: [\d.]+
"""A training script in timm's manner: factories, mixup with soft targets, EMA, warm-up and cosine, csv summary."""
import argparse
import csv
import math
import os
import time
from collections import OrderedDict
from copy import deepcopy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

_model_entrypoints = {}


def register_model(fn):
    _model_entrypoints[fn.__name__] = fn
    return fn


class AverageMeter:
    def __init__(self):
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def drop_path(x, drop_prob=0.0, training=False):
    if drop_prob == 0.0 or not training:
        return x
    keep_prob = 1 - drop_prob
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    random_tensor = x.new_empty(shape).bernoulli_(keep_prob)
    return x * random_tensor.div_(keep_prob)


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim, p):
        super().__init__()
        self.conv_dw = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.gamma = nn.Parameter(0.1 * torch.ones(dim))
        self.p = p

    def forward(self, x):
        y = self.conv_dw(x).permute(0, 2, 3, 1)
        y = self.gamma * self.fc2(F.gelu(self.fc1(self.norm(y))))
        return x + drop_path(y.permute(0, 3, 1, 2), self.p, self.training)


@register_model
def convnext_pico(num_classes, drop_path_rate):
    return nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(3, 8, 4, 4),
            norm=nn.BatchNorm2d(8),
            block1=ConvNeXtBlock(8, drop_path_rate / 2),
            block2=ConvNeXtBlock(8, drop_path_rate),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(8, num_classes),
        )
    )


def create_model(name, **kwargs):
    return _model_entrypoints[name](**kwargs)


class Mixup:
    def __init__(self, alpha, smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = alpha, smoothing, num_classes

    def __call__(self, x, target):
        lam = np.random.beta(self.alpha, self.alpha)
        x_flipped = x.flip(0).mul_(1.0 - lam)
        x.mul_(lam).add_(x_flipped)
        off = self.smoothing / self.num_classes
        on = 1.0 - self.smoothing + off

        def hot(t):
            return torch.full((t.size(0), self.num_classes), off).scatter_(1, t.view(-1, 1), on)

        return x, hot(target) * lam + hot(target.flip(0)) * (1.0 - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ModelEmaV2(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = deepcopy(model)
        self.module.eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(self.decay * ema_v + (1.0 - self.decay) * model_v)


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_at, mixup_fn, model_ema):
    losses_m, batch_time_m = AverageMeter(), AverageMeter()
    model.train()
    end = time.time()
    num_updates = epoch * len(loader)
    for batch_idx, (input, target) in enumerate(loader):
        if mixup_fn is not None:
            input, target = mixup_fn(input, target)
        output = model(input)
        loss = loss_fn(output, target)
        losses_m.update(loss.item(), input.size(0))
        optimizer.zero_grad()
        loss.backward()
        if args.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        if model_ema is not None:
            model_ema.update(model)
        num_updates += 1
        for group in optimizer.param_groups:
            group["lr"] = lr_at(num_updates)
        batch_time_m.update(time.time() - end)
        end = time.time()
        if batch_idx % 2 == 0:
            print(f"Train: {epoch} [{batch_idx:>4d}/{len(loader)}] Loss: {losses_m.val:.9f} ({losses_m.avg:.9f}) "
                  f"Time: {batch_time_m.val:.3f} LR: {optimizer.param_groups[0]['lr']:.6e}")
    return OrderedDict([("loss", losses_m.avg)])


@torch.no_grad()
def validate(model, loader, loss_fn, log_suffix=""):
    losses_m, top1_m = AverageMeter(), AverageMeter()
    model.eval()
    for input, target in loader:
        output = model(input)
        if isinstance(output, (tuple, list)):
            output = output[0]
        losses_m.update(loss_fn(output, target).data.item(), input.size(0))
        top1_m.update((output.argmax(1) == target).double().mean().item() * 100, output.size(0))
    print(f"Test{log_suffix}: Loss: {losses_m.avg:.9f} Acc@1: {top1_m.avg:.6f}")
    return OrderedDict([("loss", losses_m.avg), ("top1", top1_m.avg)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="convnext_pico")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("-b", "--batch-size", type=int, default=14)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--mixup", type=float, default=0.0)
    parser.add_argument("--smoothing", type=float, default=0.0)
    parser.add_argument("--drop-path", type=float, default=0.0)
    parser.add_argument("--clip-grad", type=float, default=None)
    parser.add_argument("--model-ema", action="store_true")
    parser.add_argument("--output", default="output")
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(42)
    np.random.seed(42)
    model = create_model(args.model, num_classes=4, drop_path_rate=args.drop_path)
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": 0.05}], lr=args.lr)
    model_ema = ModelEmaV2(model, 0.9) if args.model_ema else None
    y = torch.randint(0, 4, (64,))
    x = torch.randn(64, 3, 32, 32) + torch.randn(4, 3, 1, 1)[y]
    loader_train = DataLoader(TensorDataset(x[:48], y[:48]), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(TensorDataset(x[48:], y[48:]), 10)
    total = args.epochs * len(loader_train)

    def lr_at(n):
        return args.lr * n / 3 if n < 3 else args.lr * 0.5 * (1 + math.cos(math.pi * n / total))

    mixup_fn = Mixup(args.mixup, args.smoothing, 4) if args.mixup > 0 else None
    train_loss_fn = SoftTargetCrossEntropy() if mixup_fn else nn.CrossEntropyLoss(label_smoothing=args.smoothing)
    os.makedirs(args.output)
    best = None
    for epoch in range(args.epochs):
        train_metrics = train_one_epoch(epoch, model, loader_train, optimizer, train_loss_fn, args, lr_at, mixup_fn, model_ema)
        eval_metrics = validate(model, loader_eval, nn.CrossEntropyLoss())
        if model_ema is not None:
            eval_metrics = validate(model_ema.module, loader_eval, nn.CrossEntropyLoss(), log_suffix=" (EMA)")
        row = OrderedDict(epoch=epoch)
        row.update([("train_" + k, f"{v:.9f}") for k, v in train_metrics.items()])
        row.update([("eval_" + k, f"{v:.9f}") for k, v in eval_metrics.items()])
        with open(os.path.join(args.output, "summary.csv"), mode="a") as cf:
            dw = csv.DictWriter(cf, fieldnames=row.keys())
            if best is None:
                dw.writeheader()
            dw.writerow(row)
        if best is None or eval_metrics["top1"] > best[0]:
            best = (eval_metrics["top1"], epoch)
            torch.save({"epoch": epoch, "state_dict": model.state_dict(), "state_dict_ema": model_ema and model_ema.module.state_dict()}, os.path.join(args.output, "model_best.pth.tar"))
    print("*** Best metric: {0} (epoch {1})".format(*best))


if __name__ == "__main__":
    main()
