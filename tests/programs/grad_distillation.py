"""A teacher in no_grad, a student, temperature-scaled divergence."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
teacher = nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 4)).eval().requires_grad_(False)
student = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
opt = torch.optim.Adam(student.parameters(), lr=0.01)
T, alpha = 3.0, 0.7
loader = DataLoader(TensorDataset(torch.randn(58, 8), torch.randint(0, 4, (58,))), batch_size=13, shuffle=True)
for epoch in range(3):
    student.train()
    for x, y in loader:
        with torch.inference_mode() if epoch == 1 else torch.no_grad():
            soft = F.softmax(teacher(x) / T, dim=1)
        if soft.is_inference():
            soft = soft.clone()
        out = student(x)
        kd = F.kl_div(F.log_softmax(out / T, dim=1), soft, reduction="batchmean") * T * T
        loss = alpha * kd + (1 - alpha) * F.cross_entropy(out, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        agree = (out.argmax(1) == soft.argmax(1)).sum().item()
        print(epoch, agree, f"{loss.item():.9f} {kd.item():.9f}")
torch.save(student.state_dict(), "student.pt")
