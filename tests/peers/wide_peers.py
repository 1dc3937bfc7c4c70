"""What is above 8 kHz, on the mixtures of `unfade mix speech-test-wide.yaml`: the network of the whole band beside the narrow one, whose band
ends there and above which a gain follows what is below, and beside others. Outside the tests.

  python3 wide_peers.py DIR --unfade PROGRAM --wide FILE --narrow FILE [--dfn LIBRARY MODEL]

DIR holds noisy/ and voice/ at 48 kHz. SI-SDR by its definition, in the whole band and of what lies from 8 to 20 kHz; log-spectral distance there
by windows of 2,048 samples, floor 80 dB below each voice's loudest."""
import argparse
import os

import numpy as np
import soundfile

from speech_peers import by_array, by_command, deepfilter, names, si_sdr

RATE = 48000


def above(x, low=8000, high=20000):
    s = np.fft.rfft(x)
    f = np.fft.rfftfreq(len(x), 1 / RATE)
    s[(f < low) | (f > high)] = 0
    return np.fft.irfft(s, len(x))


def lsd(ref, test):
    w = np.hanning(2048)
    power = lambda x: np.array([np.abs(np.fft.rfft(x[i : i + 2048] * w)) ** 2 for i in range(0, len(x) - 2048, 1024)])
    a, b = power(ref), power(test)
    bins = slice(int(8000 * 2048 / RATE) + 1, int(20000 * 2048 / RATE))
    floor = a.max() * 1e-8
    d = 10 * np.log10((a[:, bins] + floor) / (b[:, bins] + floor))
    return np.sqrt((d**2).mean(1)).mean()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("--unfade", required=True)
    p.add_argument("--wide", required=True)
    p.add_argument("--narrow", required=True)
    p.add_argument("--dfn", nargs=2)
    a = p.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    clean = lambda w: (lambda i, o: [a.unfade, "clean", "-q", "--overwrite", "--threads", "1", "--weights", w, i, o])
    speed = {"wide": by_command(a.dir, "wide", clean(a.wide)), "narrow": by_command(a.dir, "narrow", clean(a.narrow))}
    if a.dfn:
        speed["dfn"] = by_array(a.dir, "dfn", deepfilter(*a.dfn, rate=RATE))
    print("%-8s %8s %8s %8s %8s" % ("", "SI-SDR", "above 8k", "LSD", "s per s"))
    for who in ["noisy"] + list(speed):
        rows = []
        for f in names(a.dir):
            ref, test = (soundfile.read(os.path.join(a.dir, d, f))[0] for d in ("voice", who))
            rows.append((si_sdr(ref, test), si_sdr(above(ref), above(test)), lsd(ref, test)))
        print("%-8s %8.2f %8.2f %8.2f %8.4f" % ((who,) + tuple(np.nanmean(rows, 0)) + (speed.get(who, 0),)))


main()
