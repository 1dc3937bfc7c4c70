#!/usr/bin/env python3
"""How steady the colours of moving stills are: photographs with grain, panned and zoomed, are coloured with and without the temporal filter, and the
chroma of each frame is compared with that of the frame before after the exact warp. stability.py UNFADE PICTURES_FOLDER. Needs numpy, Pillow, ffmpeg."""
import glob, os, subprocess, sys, tempfile
import numpy as np
from PIL import Image

W, H, N, STILLS, GRAIN = 480, 320, 40, 8, 5


def frames(picture, kind, dice):
    s = max((W + 130) / picture.width, (H + 60) / picture.height)
    im = picture.resize((int(picture.width * s) + 1, int(picture.height * s) + 1), Image.LANCZOS)
    for t in range(N):
        z = 1 + .005 * t
        cw, ch = W / z, H / z
        c = im.crop((2 * t, t, 2 * t + W, t + H)) if kind == 'pan' else \
            im.resize((W, H), Image.BICUBIC, box=(60 + (W - cw) / 2, 20 + (H - ch) / 2, 60 + (W + cw) / 2, 20 + (H + ch) / 2))
        yield np.clip(np.asarray(c) + dice.normal(0, GRAIN, (H, W)) + .5, 0, 255).astype(np.uint8)


def chroma(film):
    b = subprocess.run(['ffmpeg', '-v', 'error', '-i', film, '-pix_fmt', 'yuv444p', '-f', 'rawvideo', '-'], capture_output=True, check=True).stdout
    return np.frombuffer(b, np.uint8).reshape(-1, 3, H, W).astype(np.float32)[:, 1:]


def change(v, kind):
    sums = []
    for t in range(5, N):
        if kind == 'pan':
            sums.append(np.abs(v[t][:, :H - 1, :W - 2] - v[t - 1][:, 1:, 2:]).mean())
            continue
        q = (1 + .005 * (t - 1)) / (1 + .005 * t)  # what is at p from the middle was at q p
        box = ((W - W * q) / 2, (H - H * q) / 2, (W + W * q) / 2, (H + H * q) / 2)
        sums.append(np.abs(v[t] - np.stack([np.asarray(Image.fromarray(x).resize((W, H), Image.BICUBIC, box=box)) for x in v[t - 1]])).mean())
    return np.mean(sums)


def main(unfade, folder):
    pictures = sorted(glob.glob(os.path.join(folder, '**', '*.*'), recursive=True))
    dice, all_of = np.random.default_rng(3), {'pan': [], 'zoom': []}
    with tempfile.TemporaryDirectory() as d:
        grey, colour = os.path.join(d, 'grey.mkv'), os.path.join(d, 'colour.mkv')
        for path in pictures[::max(1, len(pictures) // STILLS)][:STILLS]:
            for kind in all_of:
                raw = b''.join(f.tobytes() for f in frames(Image.open(path).convert('L'), kind, dice))
                subprocess.run(['ffmpeg', '-v', 'error', '-y', '-f', 'rawvideo', '-pix_fmt', 'gray', '-s', f'{W}x{H}', '-r', '25', '-i', '-', '-c:v', 'ffv1', grey],
                               input=raw, check=True)
                pair = []
                for options in ([], ['--no-filter']):
                    subprocess.run([unfade, 'colorize', '-q', '--overwrite', '--codec', 'ffv1', *options, grey, colour], check=True)
                    pair.append(change(chroma(colour), kind))
                all_of[kind].append(pair)
    for kind, pairs in all_of.items():
        a, b = np.mean(pairs, axis=0)
        print(f'{kind}: {a:.3f} with the filter, {b:.3f} without: {a / b:.2f}')


main(*sys.argv[1:])
