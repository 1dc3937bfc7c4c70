"""The shipped network `color` in PyTorch, timed beside unfade on the same machine in the same minute.

    python3 tests/peers/color_torch.py [threads]          # forward 320x256, batch 1; training step 128 px, batch 32

Weights are random: only the time counts. Compare with `unfade bench` and the training log. Not part of the tests.
"""
import sys
import time

import torch
from torch import nn
import torch.nn.functional as F

WIDTH, BLOCKS = [32, 64, 128, 256, 384], [0, 1, 2, 2, 1]
UPS = [(128, 192), (96, 128), (64, 64), (32, 32)]


def conv_bn(i, o, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = conv_bn(c, c), conv_bn(c, c)

    def forward(self, x):
        return F.relu(x + self.b(F.relu(self.a(x))))


class Up(nn.Module):
    def __init__(self, i, skip, u, w):
        super().__init__()
        self.up, self.conv = nn.Conv2d(i, 4 * u, 1), conv_bn(u + skip, w)

    def forward(self, x, skip):
        t = F.pixel_shuffle(F.relu(self.up(x)), 2)
        t = torch.cat([t[:, :, :1], t], 2)
        t = F.avg_pool2d(torch.cat([t[:, :, :, :1], t], 3), 2, 1)
        return F.relu(self.conv(torch.cat([t, skip], 1)))


class Color(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(4, 32)
        self.down = nn.ModuleList(conv_bn(WIDTH[s - 1], WIDTH[s], 2) for s in range(1, 5))
        self.blocks = nn.ModuleList(nn.Sequential(*[Block(WIDTH[s]) for _ in range(BLOCKS[s])]) for s in range(1, 5))
        ins = [384, 192, 128, 64]
        self.ups = nn.ModuleList(Up(ins[i], WIDTH[3 - i], *UPS[i]) for i in range(4))
        self.q, self.k, self.v, self.mix = (nn.Conv2d(128, c, 1) for c in (32, 32, 128, 128))
        self.gamma = nn.Parameter(torch.zeros(1))
        self.head = nn.Conv2d(32, 2, 3, 1, 1)

    def attend(self, x):
        n, c, h, w = x.shape
        q = self.q(x).flatten(2).transpose(1, 2)
        k = F.max_pool2d(self.k(x), 2).flatten(2)
        v = F.max_pool2d(self.v(x), 2).flatten(2).transpose(1, 2)
        a = torch.softmax(torch.bmm(q, k) * 32 ** -0.5, -1)
        return x + self.gamma * self.mix(torch.bmm(a, v).transpose(1, 2).reshape(n, c, h, w))

    def forward(self, luma):
        x = F.relu(self.stem(F.pixel_unshuffle(luma * 4 - 1.8, 2)))
        stages = [x]
        for down, blocks in zip(self.down, self.blocks):
            x = blocks(F.relu(down(x)))
            stages.append(x)
        for i, up in enumerate(self.ups):
            x = up(x, stages[3 - i])
            if i == 1:
                x = self.attend(x)
        return self.head(x) * 0.25


def best(f, n):
    f()
    times = []
    for _ in range(n):
        t = time.perf_counter()
        f()
        times.append(time.perf_counter() - t)
    return min(times) * 1e3


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print("PyTorch", torch.__version__, torch.get_num_threads(), "threads")
    print("parameters: %.2f M" % (sum(p.numel() for p in Color().parameters()) / 1e6))
    for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        cast = lambda: torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)
        model = Color().eval().to(memory_format=torch.channels_last)
        x = torch.rand(1, 1, 256, 320).to(memory_format=torch.channels_last)
        with torch.no_grad(), cast():
            print("%s forward 320x256: %.2f ms" % (name, best(lambda: model(x), 20)))
        if dtype is torch.bfloat16:
            model.to(dtype)
            y = x.to(dtype)
            with torch.no_grad():
                print("%s forward 320x256, weights in bf16: %.2f ms" % (name, best(lambda: model(y), 20)))
        model = Color().train().to(memory_format=torch.channels_last)
        opt = torch.optim.AdamW(model.parameters(), 1e-4)
        x = torch.rand(32, 1, 128, 128).to(memory_format=torch.channels_last)
        t = torch.zeros(32, 2, 64, 64)

        def step():
            opt.zero_grad(set_to_none=True)
            with cast():
                loss = (model(x).float() - t).abs().mean()
            loss.backward()
            opt.step()

        print("%s training step, batch 32, 128 px: %.1f ms" % (name, best(step, 5)))


main()
