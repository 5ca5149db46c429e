"""A small PyTorch ResNet, trained for a minute to tell stars from noise, and exported.

python docs/networks/resnet.py    # writes resnet.onnx and stamps.npz; needs PyTorch
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.short = nn.Sequential()
        if stride > 1:
            self.short = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.short(x))


def resnet() -> nn.Module:
    head = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
    blocks = Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2)
    return nn.Sequential(*head, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))


def stamps(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Stamps (count, 1, 21, 21) of noise, scaled to 0-1; each second one has a star near its middle."""
    label = np.arange(count) % 2
    place = rng.normal(0, 1.5, (2, count, 1, 1))
    y, x = np.mgrid[-10:11, -10:11][:, None] - place
    star = np.where(label[:, None, None], 8 * np.exp(-(y**2 + x**2) / 4), 0)
    pixels = (rng.normal(size=(count, 21, 21)) + star)[:, None]
    low, high = (f(axis=(2, 3), keepdims=True) for f in (pixels.min, pixels.max))
    return ((pixels - low) / (high - low)).astype(np.float32), label


def main() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net, (pixels, label) = resnet(), stamps(2000, rng)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.003)
    for batch in np.split(rng.permutation(np.tile(np.arange(2000), 3)), 120):
        loss = F.cross_entropy(net(torch.from_numpy(pixels[batch])), torch.from_numpy(label[batch]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    pixels, label = stamps(200, np.random.default_rng(1))
    with torch.no_grad():
        right = net(torch.from_numpy(pixels)).argmax(dim=1).numpy() == label
    print(f"accuracy on 200 new stamps: {right.mean():.1%}")
    example = (torch.from_numpy(pixels[:2]),)
    batch = torch.export.Dim("batch", min=2)
    torch.onnx.export(
        net, example, "resnet.onnx", input_names=["stamps"], dynamic_shapes=({0: batch},), dynamo=True
    )
    np.savez("stamps.npz", stamps=pixels, label=label)


if __name__ == "__main__":
    main()
