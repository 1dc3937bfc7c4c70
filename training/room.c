/* Simulated rooms. */
#include "sounds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TAPS = 8 }; /* of the windowed sinc that puts an image between two samples */
static const double speed = 343, images_for = .08;

static void put(float *x, int n, double at, double amplitude) {
    int first = (int)floor(at) - TAPS / 2 + 1;
    for (int i = first; i < first + TAPS; i++) {
        double t = i - at;
        if (i < 0 || i >= n) continue;
        double sinc = fabs(t) < 1e-9 ? 1 : sin(M_PI * t) / (M_PI * t);
        x[i] += (float)(amplitude * sinc * (.5 + .5 * cos(2 * M_PI * t / (TAPS + 1))));
    }
}

static double distance(const double *a, const double *b) {
    return sqrt((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]) + (a[2] - b[2]) * (a[2] - b[2]));
}

/* How much a wall gives back, by Eyring's formula from the time that the room rings. */
static double reflection(const uf_room *r) {
    double volume = r->size[0] * r->size[1] * r->size[2];
    double surface = 2 * (r->size[0] * r->size[1] + r->size[1] * r->size[2] + r->size[0] * r->size[2]);
    return sqrt(exp(-.161 * volume / (surface * r->t60)));
}

/* Every image within `reach` metres: cell (i,j,k) of the mirrored rooms, mirrored or not along each axis. */
static void add_images(const uf_room *r, int rate, float *x, int n, double first, double reach) {
    double beta = reflection(r);
    int most[3];
    for (int a = 0; a < 3; a++) most[a] = (int)ceil(reach / (2 * r->size[a])) + 1;
    for (int i = -most[0]; i <= most[0]; i++)
        for (int j = -most[1]; j <= most[1]; j++)
            for (int k = -most[2]; k <= most[2]; k++)
                for (int mirror = 0; mirror < 8; mirror++) {
                    int cell[3] = {i, j, k}, hits = 0;
                    double image[3];
                    for (int a = 0; a < 3; a++) {
                        int m = mirror >> a & 1;
                        image[a] = (m ? -r->source[a] : r->source[a]) + 2 * cell[a] * r->size[a];
                        hits += abs(cell[a] - m) + abs(cell[a]);
                    }
                    double d = distance(image, r->microphone);
                    if (d <= reach) put(x, n, d / speed * rate, pow(beta, hits) * first / d);
                }
}

static double energy(const float *x, int from, int to) {
    double sum = 0;
    for (int i = from < 0 ? 0 : from; i < to; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

void uf_room_response(const uf_room *r, int rate, uint64_t seed, uint64_t index, float *x, int n, int *direct) {
    double first = fmax(distance(r->source, r->microphone), .05), fall = 6.907755 / (r->t60 * rate); /* amplitude, a sample */
    int end = (int)((first / speed + images_for) * rate), window = (int)(.02 * rate);
    memset(x, 0, (size_t)n * sizeof *x);
    add_images(r, rate, x, n, first, first + speed * images_for);
    *direct = (int)lround(first / speed * rate);
    if (end >= n) return;
    memset(x + end, 0, (size_t)(n - end) * sizeof *x);
    double last = sqrt(energy(x, end - window, end) / window) * exp(-fall * window / 2);
    for (int i = end; i < n; i++)
        x[i] = (float)(last * exp(-fall * (i - end)) * (double)uf_gaussian(seed, uf_hash("tail", 4) ^ index, (uint64_t)i));
}
