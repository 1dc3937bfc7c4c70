#include "schedule.h"

#include <math.h>

static double leg(double from, double to, double share) { return to + (from - to) * (1 + cos(M_PI * share)) / 2; }

uf_cycle uf_one_cycle(long long step, long long n_steps, float peak) {
    double at = n_steps > 1 ? (double)step / (double)(n_steps - 1) : 1, top = .25, p = (double)peak;
    if (at < top) return (uf_cycle){(float)leg(p / 25, p, at / top), (float)leg(.95, .85, at / top)};
    double share = (at - top) / (1 - top);
    return (uf_cycle){(float)leg(p, p / 1e5, share), (float)leg(.85, .95, share)};
}
