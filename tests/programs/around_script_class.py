"""A TorchScript class uses a function of its file, as those of torch.distributed.optim do."""
import torch
import torch.distributed.optim


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@torch.jit.script
class Doubler:
    def __init__(self, times: int):
        self.times = times

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return double(x) * self.times


print(Doubler(3)(torch.ones(2)))
