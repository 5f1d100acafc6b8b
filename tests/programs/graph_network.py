"""A graph convolution over one whole graph: no loader, one adjacency matrix, masks of nodes."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


class GraphConvolution(nn.Module):
    def __init__(self, inp, out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inp, out))
        self.bias = nn.Parameter(torch.zeros(out))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return torch.spmm(adj, x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1, self.gc2 = GraphConvolution(nfeat, nhid), GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        return F.log_softmax(self.gc2(x, adj), dim=1)


torch.manual_seed(42)
N = 60
labels = torch.arange(N) % 3
features = F.one_hot(labels, 3).double() @ torch.randn(3, 10) + torch.randn(N, 10)
same = labels[:, None] == labels[None]
adj = (torch.rand(N, N) < torch.where(same, 0.2, 0.03)).double()
adj = ((adj + adj.T + torch.eye(N)) > 0).double()
adj = (adj / adj.sum(1, keepdim=True)).to_sparse()
idx_train, idx_val, idx_test = torch.arange(20), torch.arange(20, 35), torch.arange(35, 60)
model = GCN(10, 8, 3, 0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)


def accuracy(output, labels):
    return output.max(1)[1].type_as(labels).eq(labels).double().mean()


for epoch in range(12):
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()
    model.eval()
    output = model(features, adj)
    loss_val = F.nll_loss(output[idx_val], labels[idx_val])
    print("Epoch: {:04d} loss_train: {:.9f} loss_val: {:.9f} acc_val: {:.4f}".format(epoch + 1, loss_train.item(), loss_val.item(), accuracy(output[idx_val], labels[idx_val]).item()))
print("test", accuracy(model(features, adj)[idx_test], labels[idx_test]).item())
torch.save(model.state_dict(), "gcn.pt")
