/* Sound for test programs. */
#ifndef UF_TEST_VOICE_OF_SORTS_H
#define UF_TEST_VOICE_OF_SORTS_H

/* Harmonics that glide, in syllables. */
static float speak(double t) {
    double phase = 2 * M_PI * (140 * t + 4 * sin(2 * M_PI * .7 * t)), sum = 0, syllable = fmax(sin(2 * M_PI * 2.3 * t), 0) * (fmod(t, 3) < 2.2);
    for (int h = 1; h < 24; h++) sum += cos(h * phase + h * h) / h * (1 + 2 * exp(-pow((h * 140 - 600 - 300 * sin(2 * M_PI * 1.1 * t)) / 200, 2)));
    return (float)(.05 * sum * syllable);
}

static float *sound(int n) {
    float *x = calloc((size_t)n + 1, sizeof *x);
    assert_non_null(x);
    return x;
}

#endif
