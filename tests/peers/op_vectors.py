"""Outside reference vectors for the oracle: PyTorch's values and gradients of every op, in float64, stored as float32.

    python3 tests/peers/op_vectors.py tests/vectors/ops.safetensors

tests/test_vectors.c builds the same cases and compares. Not part of the tests: needs a current PyTorch.
Tensors of a case: CASE/x0.. inputs, CASE/p.NAME parameters, CASE/dy the gradient of the output, CASE/y the output,
CASE/dx0.. and CASE/d.NAME the gradients.
"""
import json
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
store = {}


def rand(*shape):
    return torch.randn(*shape)


def case(name, f, xs, params=None, grads=True, buffers=()):
    params = dict(params or {})
    xs = [x.clone().requires_grad_(grads) for x in xs]
    leaves = {k: v.clone().requires_grad_(grads and k not in buffers) for k, v in params.items()}
    y = f(*xs, **{k.split(".")[-1]: v for k, v in leaves.items()})
    dy = rand(*y.shape)
    if grads:
        (y * dy).sum().backward()
    for i, x in enumerate(xs):
        store["%s/x%d" % (name, i)] = x
        if grads and x.grad is not None:
            store["%s/dx%d" % (name, i)] = x.grad
    for k, v in leaves.items():
        store["%s/p.%s" % (name, k)] = params[k]
        if v.grad is not None:
            store["%s/d.%s" % (name, k)] = v.grad
    store["%s/dy" % name] = dy
    store["%s/y" % name] = y


def convs():
    shapes = {"conv": (5, 3, 3, 1, 1, 1, 1), "conv_stride": (5, 3, 3, 2, 1, 1, 1), "conv_dilation": (4, 3, 3, 1, 2, 2, 1),
              "conv_groups": (6, 4, 3, 1, 1, 1, 2), "conv_4x4": (5, 3, 4, 2, 1, 1, 1), "conv_1x1": (7, 3, 1, 1, 0, 1, 1)}
    for name, (o, i, k, stride, pad, dilation, groups) in shapes.items():
        case(name, lambda x, w, b, s=stride, p=pad, d=dilation, g=groups: F.conv2d(x, w, b.flatten(), s, p, d, g),
             [rand(2, i, 9, 7)], {"c.w": rand(o, i // groups, k, k), "c.b": rand(1, o, 1, 1)})
    for name, (k, stride, pad) in {"conv_transpose_2x2": (2, 2, 0), "conv_transpose_3x3": (3, 2, 1)}.items():
        case(name, lambda x, w, b, s=stride, p=pad: F.conv_transpose2d(x, w, b.flatten(), s, p), [rand(2, 3, 5, 4)],
             {"c.w": rand(3, 4, k, k), "c.b": rand(1, 4, 1, 1)})

    def spectral(x, w, u, b):
        m = w.flatten(1)
        v = F.normalize(m.t() @ u.flatten(), dim=0, eps=1e-12).detach()
        return F.conv2d(x, w / (u.flatten() @ (m @ v)), b.flatten(), 1, 1)

    u = F.normalize(rand(5), dim=0)
    case("conv_spectral", spectral, [rand(2, 3, 6, 5)], {"c.w": rand(5, 3, 3, 3), "c.u": u.view(5, 1, 1, 1), "c.b": rand(1, 5, 1, 1)},
         buffers=("c.u",))


def norms():
    c = {"n.gamma": rand(1, 6, 1, 1), "n.beta": rand(1, 6, 1, 1)}
    case("batch_norm", lambda x, gamma, beta: F.batch_norm(x, None, None, gamma.flatten(), beta.flatten(), True, 0, 1e-5),
         [rand(3, 6, 4, 5)], c)
    fixed = dict(c, **{"n.mean": rand(1, 6, 1, 1), "n.var": rand(1, 6, 1, 1).abs() + .1})
    case("batch_norm_fixed", lambda x, gamma, beta, mean, var: F.batch_norm(
        x, mean.flatten(), var.flatten(), gamma.flatten(), beta.flatten(), False, 0, 1e-5), [rand(3, 6, 4, 5)], fixed,
        buffers=("n.mean", "n.var"))
    case("instance_norm", lambda x, gamma, beta: F.instance_norm(x, weight=gamma.flatten(), bias=beta.flatten(), eps=1e-5),
         [rand(3, 6, 4, 5)], c)
    case("group_norm", lambda x, gamma, beta: F.group_norm(x, 2, gamma.flatten(), beta.flatten(), 1e-5), [rand(3, 6, 4, 5)], c)


def elementwise():
    positive = rand(2, 3, 4, 5).abs() + .1
    away = rand(2, 3, 4, 5)
    away += .1 * away.sign()
    for name, f, x in (("relu", F.relu, away), ("sigmoid", torch.sigmoid, away), ("tanh", torch.tanh, away), ("exp", torch.exp, away),
                       ("log", torch.log, positive), ("sqrt", torch.sqrt, positive), ("abs", torch.abs, away),
                       ("square", torch.square, away), ("leaky_relu", lambda x: F.leaky_relu(x, .2), away)):
        case(name, f, [x])
    for name, f in (("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("div", torch.div)):
        case(name, f, [rand(2, 3, 4, 5), positive])
        case(name + "_broadcast", f, [rand(2, 3, 4, 5), positive[:1, :, :1, :]])
    case("sum_hw", lambda x: x.sum((2, 3), keepdim=True), [rand(2, 3, 4, 5)])
    case("mean_c", lambda x: x.mean(1, keepdim=True), [rand(2, 3, 4, 5)])


def places():
    case("max_pool", lambda x: F.max_pool2d(x, 3, 2), [rand(2, 3, 9, 7)])
    case("avg_pool", lambda x: F.avg_pool2d(x, 2, 2), [rand(2, 3, 9, 7)])
    case("resize_bilinear", lambda x: F.interpolate(x, (11, 6), mode="bilinear", align_corners=False), [rand(2, 3, 5, 7)])
    case("resize_nearest", lambda x: F.interpolate(x, (10, 14), mode="nearest"), [rand(2, 3, 5, 7)])
    case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), [rand(2, 12, 3, 4)])
    case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), [rand(2, 3, 4, 6)])
    case("softmax_c", lambda x: F.softmax(x, 1), [rand(2, 5, 3, 4)])
    case("softmax_w", lambda x: F.softmax(x, 3), [rand(2, 5, 3, 4)])
    case("matmul", torch.matmul, [rand(2, 3, 4, 5), rand(2, 3, 5, 6)])

    def attention(q, k, v):
        n, d, h, w = q.shape
        a = F.scaled_dot_product_attention(q.flatten(2).transpose(1, 2), k.flatten(2).transpose(1, 2), v.flatten(2).transpose(1, 2),
                                           scale=.5)
        return a.transpose(1, 2).reshape(n, v.shape[1], h, w)

    case("attention", attention, [rand(2, 4, 4, 6), rand(2, 4, 2, 3), rand(2, 5, 2, 3)])


def sequences():
    def gru(x, wx, wh, bx, bh, reverse=False):
        g = torch.nn.GRU(3, 4, batch_first=True)
        s = x.squeeze(2).transpose(1, 2)
        s = s.flip(1) if reverse else s
        p = {"weight_ih_l0": wx.view(12, 3), "weight_hh_l0": wh.view(12, 4), "bias_ih_l0": bx.flatten(), "bias_hh_l0": bh.flatten()}
        y = torch.func.functional_call(g, p, (s,))[0]
        y = y.flip(1) if reverse else y
        return y.transpose(1, 2).unsqueeze(2)

    p = {"g.wx": rand(1, 1, 12, 3), "g.wh": rand(1, 1, 12, 4), "g.bx": rand(1, 1, 1, 12), "g.bh": rand(1, 1, 1, 12)}
    case("gru", gru, [rand(2, 3, 1, 7)], p)
    case("gru_reverse", lambda x, **k: gru(x, reverse=True, **k), [rand(2, 3, 1, 7)], p)

    def stft(x):
        s = torch.stft(x[:, 0, 0], 16, 4, window=torch.hann_window(16), center=True, return_complex=True)
        return torch.stack([s.real, s.imag], 1)

    case("stft", stft, [rand(2, 1, 1, 40)])
    spectrum = stft(rand(2, 1, 1, 40))
    case("istft", lambda x: torch.istft(torch.complex(x[:, 0], x[:, 1]), 16, 4, window=torch.hann_window(16), center=True,
                                        length=40)[:, None, None], [spectrum], grads=False)


def losses():
    one = lambda y: y.view(1, 1, 1, 1)
    case("l1", lambda a, b: one(F.l1_loss(a, b)), [rand(2, 3, 4, 5), rand(2, 3, 4, 5)])
    case("l2", lambda a, b: one(F.mse_loss(a, b)), [rand(2, 3, 4, 5), rand(2, 3, 4, 5)])
    target = (rand(2, 1, 4, 5) > 0).double()
    bce = lambda x: one(F.binary_cross_entropy_with_logits(x, target))
    case("bce", bce, [3 * rand(2, 1, 4, 5)])
    store["bce/x1"] = target
    sign = 2 * target - 1
    case("hinge", lambda x: one(F.relu(1 - sign * x).mean()), [3 * rand(2, 1, 4, 5)])
    store["hinge/x1"] = sign
    label = torch.randint(0, 6, (4,))
    case("cross_entropy", lambda x: one(F.cross_entropy(x.flatten(1), label, label_smoothing=.1)), [2 * rand(4, 6, 1, 1)])
    store["cross_entropy/x1"] = label.double().view(4, 1, 1, 1)


def adam():
    """Five steps of AdamW on a fixed linear loss, clipped to norm 1: p after each."""
    p = torch.nn.Parameter(rand(1, 1, 3, 4))
    store["adam/p0"] = p.detach().clone()
    opt = torch.optim.AdamW([p], lr=.1, betas=(.9, .99), eps=1e-8, weight_decay=.05)
    for i in range(5):
        g = rand(1, 1, 3, 4)
        store["adam/g%d" % i] = g
        p.grad = g.clone()
        torch.nn.utils.clip_grad_norm_([p], 1.)
        opt.step()
    store["adam/p5"] = p.detach().clone()


def write(path):
    header, blobs, at = {"__metadata__": {"made_by": "PyTorch " + torch.__version__}}, [], 0
    for name in sorted(store):
        a = store[name].detach().numpy().astype("<f4")
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        blobs.append(a.tobytes())
        at += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    print(len(store), "tensors,", at, "bytes")


for make in (convs, norms, elementwise, places, sequences, losses, adam):
    make()
write(sys.argv[1])
