"""Evaluation: confusion matrix by hand and scikit-learn's metrics over gathered predictions."""
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, roc_auc_score
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
X, Y = load_digits(n_class=5, return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16.0, Y, test_size=0.3, random_state=0, stratify=Y)
train = DataLoader(TensorDataset(torch.from_numpy(X_train), torch.from_numpy(y_train)), batch_size=64, shuffle=True)
test = DataLoader(TensorDataset(torch.from_numpy(X_test), torch.from_numpy(y_test)), batch_size=50)
net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 5))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for epoch in range(3):
    net.train()
    for x, y in train:
        opt.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        opt.step()
    net.eval()
    y_true, y_pred, y_score = [], [], []
    matrix = torch.zeros(5, 5, dtype=torch.int64)
    with torch.no_grad():
        for x, y in test:
            prob = torch.softmax(net(x), 1)
            y_pred.extend(prob.argmax(1).cpu().numpy())
            y_true.extend(y.tolist())
            y_score.append(prob.numpy())
            for t, p in zip(y.view(-1), prob.argmax(1).view(-1)):
                matrix[t.long(), p.long()] += 1
    print(f"epoch {epoch} accuracy {accuracy_score(y_true, y_pred):.6f} auc {roc_auc_score(y_true, np.concatenate(y_score), multi_class='ovr'):.6f}")
    assert (matrix.numpy() == confusion_matrix(y_true, y_pred)).all()
print(matrix)
print(classification_report(y_true, y_pred, digits=4))
np.save("confusion.npy", matrix.numpy())
torch.save(net.state_dict(), "digits.pt")
