import csv

import torch
from torch.utils.data import Dataset


class CsvDataset(Dataset):
    def __init__(self, path):
        with open(path) as f:
            self.rows = [[float(v) for v in row] for row in list(csv.reader(f))[1:]]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        *x, y = self.rows[i]
        return torch.tensor(x), torch.tensor(y)
