"""Stored vectors for STOI, ESTOI and SI-SDR: python3 stoi_vectors.py ../vectors/stoi.safetensors (numpy, pystoi).

Made-up sound with the slow swelling of speech: harmonics and noise in bursts, 10 kHz, two seconds, and three bad copies."""
import json
import struct
import sys

import numpy as np
import pystoi

rate, n = 10000, 20000
rng = np.random.default_rng(7)
t = np.arange(n) / rate
pitch = 120 + 25 * np.sin(2 * np.pi * .8 * t)
phase = 2 * np.pi * np.cumsum(pitch) / rate
voiced = sum(np.sin(k * phase) / k for k in range(1, 25))
swell = np.clip(np.sin(2 * np.pi * 3.1 * t) + .6 * np.sin(2 * np.pi * 1.3 * t + 1), 0, None)
ref = .1 * swell * (voiced + .3 * rng.standard_normal(n))
ref[9000:10500] = 0
tests = {"noise": ref + .05 * rng.standard_normal(n), "babble": ref + .5 * np.roll(ref, 3000), "quiet": .2 * np.tanh(4 * ref)}


def si_sdr(s, x):
    s, x = s - s.mean(), x - x.mean()
    p = (x @ s) / (s @ s) * s
    return 10 * np.log10((p @ p) / ((x - p) @ (x - p)))


ref = ref.astype("<f4")
store = {"ref": ref}
for name, x in tests.items():
    x = x.astype("<f4")
    store[name] = x
    a, b = ref.astype(float), x.astype(float)
    store[name + ".scores"] = np.array([pystoi.stoi(a, b, rate), pystoi.stoi(a, b, rate, extended=True), si_sdr(a, b)], "<f4")
    print(name, store[name + ".scores"])
header, blobs, at = {"__metadata__": {"made_by": "pystoi 0.4.1"}}, [], 0
for name in sorted(store):
    a = store[name]
    header[name] = {"dtype": "F32", "shape": [1, 1, 1, a.size], "data_offsets": [at, at + a.nbytes]}
    blobs.append(a.tobytes())
    at += a.nbytes
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
