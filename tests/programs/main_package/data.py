import torch
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


def loader():
    torch.manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(29, 4), torch.randn(29, 2)), batch_size=8, shuffle=True)
