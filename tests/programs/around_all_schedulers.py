"""Every scheduler of torch.optim.lr_scheduler, one short training each."""
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler as S
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
STEPS = 8


def sequential(opt):
    return S.SequentialLR(opt, [S.LinearLR(opt, 0.1, total_iters=3), S.CosineAnnealingLR(opt, 5)], milestones=[3])


MAKERS = {
    "lambda": lambda o: S.LambdaLR(o, lambda e: 0.9**e),
    "multiplicative": lambda o: S.MultiplicativeLR(o, lambda e: 0.95),
    "step": lambda o: S.StepLR(o, 2, 0.5),
    "multistep": lambda o: S.MultiStepLR(o, [2, 5], 0.1),
    "constant": lambda o: S.ConstantLR(o, 0.5, 3),
    "linear": lambda o: S.LinearLR(o, 0.2, total_iters=4),
    "exponential": lambda o: S.ExponentialLR(o, 0.8),
    "polynomial": lambda o: S.PolynomialLR(o, STEPS, 2.0),
    "cosine": lambda o: S.CosineAnnealingLR(o, STEPS, 1e-3),
    "restarts": lambda o: S.CosineAnnealingWarmRestarts(o, 3, 2),
    "cyclic": lambda o: S.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "onecycle": lambda o: S.OneCycleLR(o, 0.1, total_steps=STEPS),
    "sequential": sequential,
    "chained": lambda o: S.ChainedScheduler([S.ConstantLR(o, 0.3, 2), S.ExponentialLR(o, 0.9)]),
    "plateau": lambda o: S.ReduceLROnPlateau(o, factor=0.5, patience=1),
}
torch.manual_seed(0)
X, Y = torch.randn(40, 4), torch.randn(40, 1)
for name, make in MAKERS.items():
    torch.manual_seed(1)
    net = nn.Linear(4, 1)
    opt = SGD(net.parameters(), lr=0.05, momentum=0.5)
    scheduler = make(opt)
    rates = []
    loader = DataLoader(TensorDataset(X, Y), batch_size=5)
    for x, y in loader:
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        scheduler.step(loss) if name == "plateau" else scheduler.step()
        rates.append(opt.param_groups[0]["lr"])
    print(f"{name:15s} {loss.item():.9f}", " ".join(f"{float(r):.9f}" for r in rates))
    torch.save({"net": net.state_dict(), "last": scheduler.state_dict()["_last_lr"]}, f"{name}.pt")
