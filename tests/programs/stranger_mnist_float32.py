# tolerance: 2e-4 (float32: sums in another order, carried through 24 steps of training)
"""The same network as every beginner writes it: float32, tensors at module level, no functions."""
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits

digits = load_digits()
X = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
Y = torch.tensor(digits.target)
torch.manual_seed(0)
train_loader = DataLoader(TensorDataset(X[:500], Y[:500]), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(X[500:800], Y[500:800]), batch_size=100)

class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.fc = nn.Linear(32 * 2 * 2, 10)

    def forward(self, x):
        x = self.conv(x)
        x = x.view(x.size(0), -1)
        return self.fc(x)

net = CNN()
print(net)
print(sum(p.numel() for p in net.parameters()), "parameters")
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

for epoch in range(3):  # loop over the dataset multiple times
    running_loss = 0.0
    for i, data in enumerate(train_loader, 0):
        inputs, labels = data
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        if i % 4 == 3:
            print(f'[{epoch + 1}, {i + 1:5d}] loss: {running_loss / 4:.4f}')
            running_loss = 0.0

print('Finished Training')
correct = 0
total = 0
with torch.no_grad():
    for data in test_loader:
        images, labels = data
        outputs = net(images)
        _, predicted = torch.max(outputs, 1)
        total += labels.size(0)
        correct += (predicted == labels).sum().item()
print(f'Accuracy of the network on the {total} test images: {100 * correct // total} %')

class_correct = list(0. for i in range(10))
class_total = list(0. for i in range(10))
with torch.no_grad():
    for images, labels in test_loader:
        c = (torch.max(net(images), 1)[1] == labels).squeeze()
        for i in range(len(labels)):
            class_correct[labels[i]] += c[i].item()
            class_total[labels[i]] += 1
for i in range(10):
    print('Accuracy of %d : %2d %%' % (i, 100 * class_correct[i] / class_total[i]))
torch.save(net.state_dict(), './cifar_net.pth')
