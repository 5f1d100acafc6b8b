"""YOLO-style: targets collated with an image index column, anchors as buffers, boolean-mask losses, cosine warm-up by iterations, nominal batch accumulation, EMA with decay ramp."""

import math, copy, torch, torch.nn as nn, numpy as np, random
from torch.utils.data import Dataset, DataLoader

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
np.random.seed(0)
random.seed(0)


class DS(Dataset):
    def __init__(s, n=24):
        r = np.random.RandomState(1)
        s.im = r.rand(n, 3, 16, 16)
        s.l = [np.c_[r.randint(0, 3, k), r.rand(k, 4) * 0.5 + 0.25] for k in r.randint(0, 4, n)]

    def __len__(s):
        return len(s.im)

    def __getitem__(s, i):
        l = torch.zeros(len(s.l[i]), 6)
        l[:, 1:] = torch.from_numpy(s.l[i])
        return torch.from_numpy(s.im[i]), l, f"{i}.jpg", ((16, 16), None)

    @staticmethod
    def collate_fn(b):
        im, lab, path, sh = zip(*b)
        for i, l in enumerate(lab):
            l[:, 0] = i
        return torch.stack(im, 0), torch.cat(lab, 0), path, sh


class Conv(nn.Module):
    def __init__(s, i, o, k=3, st=1):
        super().__init__()
        s.conv = nn.Conv2d(i, o, k, st, k // 2, bias=False)
        s.bn = nn.BatchNorm2d(o)
        s.act = nn.SiLU()

    def forward(s, x):
        return s.act(s.bn(s.conv(x)))


class Detect(nn.Module):
    def __init__(s, nc=3, anchors=((2, 3), (4, 2)), ch=16):
        super().__init__()
        s.nc, s.no, s.na = nc, nc + 5, len(anchors)
        s.register_buffer("anchors", torch.tensor(anchors).double())
        s.m = nn.Conv2d(ch, s.no * s.na, 1)
        s.grid = torch.empty(0)

    def forward(s, x):
        x = s.m(x)
        b, _, h, w = x.shape
        x = x.view(b, s.na, s.no, h, w).permute(0, 1, 3, 4, 2).contiguous()
        if s.training:
            return [x]
        if s.grid.shape[:2] != (h, w):
            yv, xv = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            s.grid = torch.stack((xv, yv), 2).double()
        xy, wh, conf = x.sigmoid().split((2, 2, s.nc + 1), 4)
        y = torch.cat(((xy * 2 + s.grid) * 4, (wh * 2) ** 2 * s.anchors.view(1, -1, 1, 1, 2), conf), 4)
        return y.view(b, -1, s.no), [x]


class Model(nn.Module):
    def __init__(s):
        super().__init__()
        s.model = nn.Sequential(Conv(3, 8, 3, 2), Conv(8, 16, 3, 2), Conv(16, 16), Detect())

    def forward(s, x):
        return s.model(x)


class Loss:
    def __init__(s, model):
        s.d = model.model[-1]
        s.bce = nn.BCEWithLogitsLoss()
        s.bco = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.5]))

    def __call__(s, p, t):
        pi = p[0]
        b, na, h, w, _ = pi.shape
        lb = lc = torch.zeros(1)
        tobj = torch.zeros(b, na, h, w)
        n = t.shape[0]
        if n:
            bi, c = t[:, 0].long(), t[:, 1].long()
            gij = t[:, 2:4] * torch.tensor([w, h])
            gi, gj = gij.long().clamp_(0, w - 1).T
            a = (t[:, 4] > t[:, 5]).long()
            ps = pi[bi, a, gj, gi]
            pxy = ps[:, :2].sigmoid() * 2 - 0.5
            lb = (
                lb
                + ((pxy - (gij - gij.long())) ** 2).mean()
                + ((ps[:, 2:4].sigmoid() * 2) ** 2 - t[:, 4:] * 4).abs().mean()
            )
            tobj[bi, a, gj, gi] = ps[:, 4].detach().sigmoid().clamp(0)
            tc = torch.full_like(ps[:, 5:], 0.05)
            tc[range(n), c] = 0.95
            lc = lc + s.bce(ps[:, 5:], tc)
        lo = s.bco(pi[..., 4], tobj)
        return (lb * 0.05 + lo + lc * 0.5) * b, torch.cat((lb, lo.view(1), lc)).detach()


class EMA:
    def __init__(s, m):
        s.ema = copy.deepcopy(m).eval()
        s.u = 0
        [p.requires_grad_(False) for p in s.ema.parameters()]

    def update(s, m):
        s.u += 1
        d = 0.99 * (1 - math.exp(-s.u / 20))
        msd = m.state_dict()
        for k, v in s.ema.state_dict().items():
            if v.dtype.is_floating_point:
                v *= d
                v += (1 - d) * msd[k].detach()


m = Model()
ema = EMA(m)
comp = Loss(m)
g0, g1, g2 = [], [], []
for v in m.modules():
    if hasattr(v, "bias") and isinstance(v.bias, nn.Parameter):
        g2.append(v.bias)
    if isinstance(v, nn.BatchNorm2d):
        g0.append(v.weight)
    elif hasattr(v, "weight") and isinstance(v.weight, nn.Parameter):
        g1.append(v.weight)
opt = torch.optim.SGD(g0, lr=0.01, momentum=0.9, nesterov=True)
opt.add_param_group({"params": g1, "weight_decay": 5e-4})
opt.add_param_group({"params": g2})
lf = lambda x: ((1 - math.cos(x * math.pi / 3)) / 2) * (0.1 - 1) + 1
sch = torch.optim.lr_scheduler.LambdaLR(opt, lf)
dl = DataLoader(DS(), 5, shuffle=True, collate_fn=DS.collate_fn)
nb = len(dl)
last = -1
for ep in range(3):
    m.train()
    ml = torch.zeros(3)
    opt.zero_grad()
    for i, (im, t, paths, _) in enumerate(dl):
        ni = i + nb * ep
        if ni <= 6:
            for j, x in enumerate(opt.param_groups):
                x["lr"] = np.interp(ni, [0, 6], [0.1 if j == 2 else 0.0, x["initial_lr"] * lf(ep)])
                x["momentum"] = np.interp(ni, [0, 6], [0.8, 0.9])
        if random.random() < 0.5:
            im = torch.flip(im, [3])
            t = t.clone()
            t[:, 2] = 1 - t[:, 2]
        loss, items = comp(m(im), t)
        loss.backward()
        if ni - last >= max(1, round(np.interp(ni, [0, 6], [1, 2]))):
            nn.utils.clip_grad_norm_(m.parameters(), 10.0)
            opt.step()
            opt.zero_grad()
            ema.update(m)
            last = ni
        ml = (ml * i + items) / (i + 1)
    sch.step()
    print(("%10s" + "%14.9f" * 3) % (f"{ep}/2", *ml), sorted(paths)[:2])
    y, _ = ema.ema.eval()(torch.from_numpy(DS().im[:3]))
    print(y.shape, y[..., 4].max().item())
torch.save(
    {
        "model": copy.deepcopy(m).half(),
        "ema": ema.ema.state_dict(),
        "updates": ema.u,
        "opt": opt.state_dict(),
    },
    "last.pt",
)
