import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
video = TensorDataset(torch.rand(21, 2, 4, 8, 8), torch.rand(21, 1))
net = nn.Sequential(
    nn.Conv3d(2, 4, 3, padding=1),
    nn.BatchNorm3d(4, momentum=0.2),
    nn.ReLU(),
    nn.MaxPool3d(2),
    nn.Conv3d(4, 4, 2),
    nn.BatchNorm3d(4),
    nn.ReLU(),  # or each channel would average to nothing
    nn.AdaptiveAvgPool3d(1),
    nn.Flatten(),
    nn.Linear(4, 1),
)
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for epoch in range(2):
    for clip, score in DataLoader(video, batch_size=5):
        if len(clip) == 1:
            net.eval()  # one row has no statistics
        loss = nn.functional.l1_loss(net(clip), score)
        net.train()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, len(clip), f"{loss.item():.9f} {net[1].running_mean.sum().item():.9f}")
torch.save(net.state_dict(), "video.pt")
