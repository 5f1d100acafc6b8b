# args: --epochs 2 --lr 0.05 --batch-size 8 --hidden 12 8 --no-bias --workers 0 --seed 3 run1
"""Options of the script itself, some of which pellucid has too."""
import argparse
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", "-b", type=int, default=4)
    parser.add_argument("--hidden", type=int, nargs="+", default=[4])
    parser.add_argument("--no-bias", action="store_true")
    parser.add_argument("--workers", type=int, default=2, help="workers of the loader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    return parser.parse_args()


def main():
    args = parse_args()
    print(json.dumps(vars(args), sort_keys=True))
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(args.seed)
    sizes = [5, *args.hidden, 2]
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b, bias=not args.no_bias), nn.ReLU()]
    net = nn.Sequential(*layers[:-1]).to(args.device)
    opt = torch.optim.SGD(net.parameters(), lr=args.lr)
    data = TensorDataset(torch.randn(30, 5), torch.randint(0, 2, (30,)))
    loader = DataLoader(data, batch_size=args.batch_size, shuffle=True, num_workers=args.workers)
    for epoch in range(args.epochs):
        for x, y in loader:
            loss = nn.functional.cross_entropy(net(x.to(args.device)), y.to(args.device))
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(epoch, f"{loss.item():.9f}")
    torch.save(net.state_dict(), f"{args.name}.pt")


if __name__ == "__main__":
    main()
