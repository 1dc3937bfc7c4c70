/* How good a colouring is: CIELAB differences and colourfulness. The formulae are the measures, so they stand here and
 * not in a colour library. */
#include "losses.h"

#include <math.h>

typedef struct lab {
    double l, a, b;
} lab;

static double linear(double v) { return v <= .04045 ? v / 12.92 : pow((v + .055) / 1.055, 2.4); }

static double cube(double t) { return t > 216. / 24389 ? cbrt(t) : (24389. / 27 * t + 16) / 116; }

/* sRGB (IEC 61966-2-1), D65. */
static lab lab_of(const uint8_t *p, const double *lin) {
    double r = lin[p[0]], g = lin[p[1]], b = lin[p[2]];
    double x = cube((.4124564 * r + .3575761 * g + .1804375 * b) / .95047);
    double y = cube(.2126729 * r + .7151522 * g + .0721750 * b);
    double z = cube((.0193339 * r + .1191920 * g + .9503041 * b) / 1.08883);
    return (lab){116 * y - 16, 500 * (x - y), 200 * (y - z)};
}

static void table(double lin[256]) {
    for (int i = 0; i < 256; i++) lin[i] = linear(i / 255.);
}

static double rad(double deg) { return deg * M_PI / 180; }

static double hue(double a, double b) {
    if (a == 0 && b == 0) return 0;
    double h = atan2(b, a) * 180 / M_PI;
    return h < 0 ? h + 360 : h;
}

/* Sharma, Wu, Dalal: "The CIEDE2000 color-difference formula: implementation notes", 2005. */
static double ciede(lab p, lab q) {
    double c1 = hypot(p.a, p.b), c2 = hypot(q.a, q.b), cm7 = pow((c1 + c2) / 2, 7);
    double g = .5 * (1 - sqrt(cm7 / (cm7 + pow(25, 7))));
    double a1 = (1 + g) * p.a, a2 = (1 + g) * q.a;
    c1 = hypot(a1, p.b);
    c2 = hypot(a2, q.b);
    double h1 = hue(a1, p.b), h2 = hue(a2, q.b), dh = h2 - h1, hm = h1 + h2;
    if (c1 * c2 == 0) {
        dh = 0;
    } else {
        if (dh > 180) dh -= 360;
        if (dh < -180) dh += 360;
        if (fabs(h1 - h2) > 180) hm += hm < 360 ? 360 : -360;
        hm /= 2;
    }
    double dl = q.l - p.l, dc = c2 - c1, dbig = 2 * sqrt(c1 * c2) * sin(rad(dh) / 2);
    double lm = (p.l + q.l) / 2 - 50, cm = (c1 + c2) / 2;
    cm7 = pow(cm, 7);
    double t = 1 - .17 * cos(rad(hm - 30)) + .24 * cos(rad(2 * hm)) + .32 * cos(rad(3 * hm + 6)) -
               .20 * cos(rad(4 * hm - 63));
    double rt = -sin(rad(60 * exp(-pow((hm - 275) / 25, 2)))) * 2 * sqrt(cm7 / (cm7 + pow(25, 7)));
    double x = dl / (1 + .015 * lm * lm / sqrt(20 + lm * lm)), y = dc / (1 + .045 * cm), z = dbig / (1 + .015 * cm * t);
    return sqrt(x * x + y * y + z * z + rt * y * z);
}

double uf_ciede2000_lab(const double p[3], const double q[3]) {
    return ciede((lab){p[0], p[1], p[2]}, (lab){q[0], q[1], q[2]});
}

double uf_ciede2000(uf_rgb a, uf_rgb b) {
    double lin[256], sum = 0;
    table(lin);
    for (int y = 0; y < a.h; y++)
        for (int x = 0; x < a.w; x++)
            sum += ciede(lab_of(a.data + (ptrdiff_t)y * a.stride + 3 * (ptrdiff_t)x, lin),
                         lab_of(b.data + (ptrdiff_t)y * b.stride + 3 * (ptrdiff_t)x, lin));
    return sum / ((double)a.w * a.h);
}

double uf_ab_psnr(uf_rgb a, uf_rgb b) {
    double lin[256], sum = 0;
    table(lin);
    for (int y = 0; y < a.h; y++)
        for (int x = 0; x < a.w; x++) {
            lab p = lab_of(a.data + (ptrdiff_t)y * a.stride + 3 * (ptrdiff_t)x, lin);
            lab q = lab_of(b.data + (ptrdiff_t)y * b.stride + 3 * (ptrdiff_t)x, lin);
            sum += (p.a - q.a) * (p.a - q.a) + (p.b - q.b) * (p.b - q.b);
        }
    double mse = sum / (2. * a.w * a.h);
    return 10 * log10(255. * 255. / (mse > 1e-9 ? mse : 1e-9));
}

double uf_colorfulness(uf_rgb p) {
    double srg = 0, syb = 0, qrg = 0, qyb = 0, n = (double)p.w * p.h;
    for (int y = 0; y < p.h; y++)
        for (int x = 0; x < p.w; x++) {
            const uint8_t *v = p.data + (ptrdiff_t)y * p.stride + 3 * (ptrdiff_t)x;
            double rg = v[0] - v[1], yb = .5 * (v[0] + v[1]) - v[2];
            srg += rg;
            syb += yb;
            qrg += rg * rg;
            qyb += yb * yb;
        }
    double mrg = srg / n, myb = syb / n, var = fmax(qrg / n - mrg * mrg, 0) + fmax(qyb / n - myb * myb, 0);
    return sqrt(var) + .3 * sqrt(mrg * mrg + myb * myb);
}

double uf_grey_share(uf_rgb p) {
    double lin[256], grey = 0;
    table(lin);
    for (int y = 0; y < p.h; y++)
        for (int x = 0; x < p.w; x++) {
            lab c = lab_of(p.data + (ptrdiff_t)y * p.stride + 3 * (ptrdiff_t)x, lin);
            grey += hypot(c.a, c.b) < 5;
        }
    return grey / ((double)p.w * p.h);
}
