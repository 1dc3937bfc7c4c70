"""Other programs on the mixtures of `unfade mix`, and everybody's scores in one table. Outside the tests.

  python3 speech_peers.py run DIR --unfade PROGRAM [--weights FILE] [--gtcrn REPOSITORY] [--rnnn MODEL] [--dfn LIBRARY MODEL]
  python3 speech_peers.py score DIR

DIR holds noisy/ and voice/. Each program writes DIR/NAME/; its seconds are measured one after the other with one thread. The scores are
pystoi's, pesq's (wide band) and, with speechmos installed, DNSMOS's; SI-SDR by its definition."""
import argparse
import ctypes
import json
import os
import subprocess
import sys
import time

import numpy as np
import soundfile

RATE = 16000


def names(folder):
    return sorted(f for f in os.listdir(os.path.join(folder, "noisy")) if f.endswith(".wav"))


def by_array(folder, name, enhance, rate=RATE):
    os.makedirs(os.path.join(folder, name), exist_ok=True)
    seconds = sound = 0
    for f in names(folder):
        x, own = soundfile.read(os.path.join(folder, "noisy", f), dtype="float32")
        start = time.time()
        y = enhance(x)
        seconds += time.time() - start
        sound += len(x) / own
        y = np.pad(y, (0, max(0, len(x) - len(y))))[: len(x)]
        soundfile.write(os.path.join(folder, name, f), y, own, subtype="FLOAT")
    return seconds / sound


def by_command(folder, name, command):
    os.makedirs(os.path.join(folder, name), exist_ok=True)
    seconds = sound = 0
    for f in names(folder):
        a, b = os.path.join(folder, "noisy", f), os.path.join(folder, name, f)
        start = time.time()
        subprocess.run(command(a, b), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds += time.time() - start
        sound += soundfile.info(a).duration
    return seconds / sound


def gtcrn(repository):
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, repository)
    from gtcrn import GTCRN

    model = GTCRN().eval()
    model.load_state_dict(torch.load(os.path.join(repository, "checkpoints", "model_trained_on_dns3.tar"), map_location="cpu")["model"])
    window = torch.hann_window(512).pow(0.5)

    def enhance(x):
        with torch.no_grad():
            s = torch.view_as_real(torch.stft(torch.from_numpy(x), 512, 256, 512, window, return_complex=True))
            y = model(s[None])[0]
            return torch.istft(torch.view_as_complex(y.contiguous()), 512, 256, 512, window, length=len(x)).numpy()

    return enhance


def deepfilter(library, model, rate=RATE):
    """DeepFilterNet 3 by its own C interface: 48 kHz, 480 samples at a time, two frames late."""
    import scipy.signal

    df = ctypes.CDLL(library)
    df.df_create.restype = ctypes.c_void_p
    df.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    df.df_process_frame.restype = ctypes.c_float
    df.df_process_frame.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    df.df_get_frame_length.restype = ctypes.c_size_t
    df.df_get_frame_length.argtypes = [ctypes.c_void_p]
    df.df_free.argtypes = [ctypes.c_void_p]

    def enhance(x):
        state = df.df_create(model.encode(), 100.0, None)
        n = df.df_get_frame_length(state)
        late = 480 * 2 + 480
        up = np.pad(scipy.signal.resample_poly(x, 48000 // rate, 1), (0, late + n)).astype("float32")
        out = np.zeros_like(up)
        for at in range(0, len(up) - n + 1, n):
            piece, res = np.ascontiguousarray(up[at : at + n]), np.zeros(n, "float32")
            df.df_process_frame(state, piece.ctypes.data, res.ctypes.data)
            out[at : at + n] = res
        df.df_free(state)
        y = scipy.signal.resample_poly(out, 1, 48000 // rate)
        corr = np.fft.irfft(np.fft.rfft(y[: len(x)]) * np.conj(np.fft.rfft(x)))  # its delay, found and taken off
        lag = int(np.argmax(corr[: rate // 10]))
        return y[lag : lag + len(x)].astype("float32")

    return enhance


def run(a):
    speed = {}
    one = dict(os.environ, OMP_NUM_THREADS="1")
    os.environ.update(one)
    weights = ["--weights", a.weights] if a.weights else []
    speed["unfade"] = by_command(a.dir, "unfade", lambda i, o: [a.unfade, "clean", "-q", "--overwrite", "--threads", "1", i, o] + weights)
    ff = lambda f: (lambda i, o: ["ffmpeg", "-v", "error", "-y", "-threads", "1", "-i", i, "-af", f, "-c:a", "pcm_f32le", o])
    speed["afftdn"] = by_command(a.dir, "afftdn", ff("afftdn=nt=w:om=o:tn=1"))
    if a.rnnn:
        speed["arnndn"] = by_command(a.dir, "arnndn", ff("aresample=48000,arnndn=m=%s,aresample=16000" % a.rnnn))
    if a.gtcrn:
        speed["gtcrn"] = by_array(a.dir, "gtcrn", gtcrn(a.gtcrn))
    try:
        import noisereduce

        speed["noisereduce"] = by_array(a.dir, "noisereduce", lambda x: noisereduce.reduce_noise(y=x, sr=RATE))
    except ImportError:
        pass
    if a.dfn:
        speed["deepfilternet3"] = by_array(a.dir, "deepfilternet3", deepfilter(*a.dfn))
    with open(os.path.join(a.dir, "speed.json"), "w") as f:
        json.dump(speed, f)


def si_sdr(s, x):
    s, x = s - s.mean(), x - x.mean()
    p = (x @ s) / (s @ s) * s
    return 10 * np.log10((p @ p) / ((x - p) @ (x - p) + 1e-20))


def aligned(noisy, x):
    """x with its delay against the recording, up to 100 ms, taken off: some programs come late and do not say so."""
    n = min(len(noisy), len(x))
    c = np.fft.irfft(np.fft.rfft(x[:n], 2 * n) * np.conj(np.fft.rfft(noisy[:n], 2 * n)))
    lag = int(np.argmax(np.concatenate([c[-1600:], c[:1600]]))) - 1600
    return x[lag:] if lag >= 0 else np.concatenate([np.zeros(-lag), x])


def score(a):
    import pesq
    import pystoi

    try:
        from speechmos import dnsmos
    except ImportError:
        dnsmos = None
    speed = {}
    if os.path.exists(os.path.join(a.dir, "speed.json")):
        speed = json.load(open(os.path.join(a.dir, "speed.json")))
    kinds = ["noisy"] + sorted(d for d in os.listdir(a.dir) if d not in ("noisy", "voice") and os.path.isdir(os.path.join(a.dir, d)))
    print("%-16s %8s %8s %8s %8s %8s %8s" % ("", "SI-SDR", "STOI", "ESTOI", "PESQ", "OVRL", "RTF"))
    for kind in kinds:
        rows = []
        for f in names(a.dir):
            v = soundfile.read(os.path.join(a.dir, "voice", f))[0]
            x = aligned(soundfile.read(os.path.join(a.dir, "noisy", f))[0], soundfile.read(os.path.join(a.dir, kind, f))[0])
            n = min(len(v), len(x))
            v, x = v[:n], x[:n]
            try:
                p = pesq.pesq(RATE, v, x, "wb")
            except pesq.PesqError:
                p = np.nan
            m = dnsmos.run(np.clip(x, -1, 1), sr=RATE)["ovrl_mos"] if dnsmos and a.mos else np.nan
            rows.append([si_sdr(v, x), pystoi.stoi(v, x, RATE), pystoi.stoi(v, x, RATE, extended=True), p, m])
        mean = np.nanmean(np.array(rows), 0)
        print("%-16s %8.2f %8.3f %8.3f %8.2f %8.2f %8.4f" % ((kind,) + tuple(mean) + (speed.get(kind, 0),)), flush=True)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["run", "score"])
    p.add_argument("dir")
    p.add_argument("--unfade")
    p.add_argument("--weights")
    p.add_argument("--gtcrn")
    p.add_argument("--rnnn")
    p.add_argument("--dfn", nargs=2)
    p.add_argument("--mos", action="store_true", help="DNSMOS too, which is slow")
    a = p.parse_args()
    run(a) if a.what == "run" else score(a)
