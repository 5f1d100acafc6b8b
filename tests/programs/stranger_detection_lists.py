"""Detection in the torchvision style: lists of images, lists of dict targets, losses as a dict."""

import math, sys, json
import torch, torch.nn as nn, torch.nn.functional as F
from collections import defaultdict, deque

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Shapes(torch.utils.data.Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        h = 16 + 2 * (i % 3)
        img = torch.rand(3, h, 16, generator=g)
        k = 1 + i % 3
        xy = torch.rand(k, 2, generator=g) * 8
        boxes = torch.cat([xy, xy + 2 + torch.rand(k, 2, generator=g) * 4], 1)
        return img, {
            "boxes": boxes,
            "labels": torch.randint(1, 4, (k,), generator=g),
            "image_id": torch.tensor([i]),
        }


def collate_fn(batch):
    return tuple(zip(*batch))


class Tiny(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()
        )
        self.cls = nn.Conv2d(8, classes, 1)
        self.box = nn.Conv2d(8, 4, 1)

    def forward(self, images, targets=None):
        if self.training and targets is None:
            raise ValueError("targets")
        H = max(i.shape[1] for i in images)
        batch = torch.stack([F.pad(i, (0, 0, 0, H - i.shape[1])) for i in images])
        f = self.body(batch)
        c, b = self.cls(f), self.box(f)
        if self.training:
            lc = lb = 0.0
            for k, t in enumerate(targets):
                cx = ((t["boxes"][:, 0] + t["boxes"][:, 2]) / 8).long().clamp(0, 3)
                cy = ((t["boxes"][:, 1] + t["boxes"][:, 3]) / 8).long().clamp(0, 3)
                lc = lc + F.cross_entropy(c[k][:, cy, cx].t(), t["labels"])
                lb = lb + F.smooth_l1_loss(b[k][:, cy, cx].t(), t["boxes"])
            return {"loss_classifier": lc / len(targets), "loss_box_reg": lb / len(targets)}
        s, l = c.softmax(1)[:, 1:].flatten(2).max(2)
        return [
            {"scores": s[k], "labels": l[k], "boxes": b[k].flatten(1).t()[:3]} for k in range(len(images))
        ]


class SmoothedValue:
    def __init__(self, window=20):
        self.deque = deque(maxlen=window)
        self.total = 0.0
        self.count = 0

    def update(self, v):
        self.deque.append(v)
        self.count += 1
        self.total += v

    @property
    def median(self):
        return torch.tensor(list(self.deque)).median().item()

    @property
    def global_avg(self):
        return self.total / self.count

    def __str__(self):
        return f"{self.median:.6f} ({self.global_avg:.9f})"


class MetricLogger:
    def __init__(self):
        self.meters = defaultdict(SmoothedValue)

    def update(self, **kw):
        for k, v in kw.items():
            self.meters[k].update(v.item() if isinstance(v, torch.Tensor) else v)

    def __str__(self):
        return "  ".join(f"{n}: {m}" for n, m in self.meters.items())


train = torch.utils.data.DataLoader(Shapes(22), batch_size=4, shuffle=True, collate_fn=collate_fn)
test = torch.utils.data.DataLoader(Shapes(5), batch_size=1, collate_fn=collate_fn)
model = Tiny()
params = [p for p in model.parameters() if p.requires_grad]
opt = torch.optim.SGD(params, lr=0.01, momentum=0.9, weight_decay=5e-4)
sched = torch.optim.lr_scheduler.StepLR(opt, 1, 0.5)
for epoch in range(2):
    model.train()
    log = MetricLogger()
    for images, targets in train:
        images = list(i.to("cpu") for i in images)
        targets = [{k: v.to("cpu") for k, v in t.items()} for t in targets]
        loss_dict = model(images, targets)
        losses = sum(l for l in loss_dict.values())
        v = losses.item()
        if not math.isfinite(v):
            print("Loss is", v)
            sys.exit(1)
        opt.zero_grad()
        losses.backward()
        opt.step()
        log.update(loss=losses, **loss_dict)
        log.update(lr=opt.param_groups[0]["lr"])
    sched.step()
    print(epoch, log)
    model.eval()
    with torch.inference_mode():
        res = {}
        for images, targets in test:
            outs = model(images)
            res.update({t["image_id"].item(): o for t, o in zip(targets, outs)})
    print(json.dumps({k: [round(s, 9) for s in o["scores"].tolist()] for k, o in res.items()}))
torch.save(model.state_dict(), f"det.pth")
