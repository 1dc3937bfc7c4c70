/* Runs: the schedule, recipes that are refused, and a run that is stopped and resumed to the same bits. */
#include "step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "folder.h"

/* The thread sanitizer is here for the loader's threads, which runs and finishes use: what only computes takes it minutes. */
#ifdef __SANITIZE_THREAD__
enum { WATCHING_THREADS = 1 };
#else
enum { WATCHING_THREADS = 0 };
#endif

static void test_one_cycle(void **state) {
    (void)state;
    float peak = 0;
    for (int i = 0; i < 1000; i++) peak = fmaxf(peak, uf_one_cycle(i, 1000, .01f).rate);
    assert_true(fabsf(peak - .01f) < 1e-5f);
    assert_true(fabsf(uf_one_cycle(0, 1000, .01f).rate - .01f / 25) < 1e-7f);
    assert_true(uf_one_cycle(999, 1000, .01f).rate < 1e-6f);
    assert_true(fabsf(uf_one_cycle(0, 1000, 1).beta1 - .95f) < 1e-5f);
}

static const char *losses = "{l1: 1}";

static const char *recipe(const char *more, int stage_steps) {
    static char path[96];
    snprintf(path, sizeof path, "%s/recipe.yaml", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "# a comment\nmodel: color\nout: w.safetensors\nseed: 5\ntrain:\n  - path: %s/samples/pictures\n"
               "valid:\n  - path: %s/samples/pictures\nstages:\n"
               "  - {size: 32, batch: 2, steps: %d, rate: 0.001, noise: 0.05}\n"
               "  - {size: 64, batch: 1, steps: 2, rate: 0.001, freeze: nothing. enc.}\n"
               "losses: %s\naverage: 0.9\nclip: 1\nworkers: 2\ncheckpoint_every: 100\n%s",
            UNFADE_SOURCE_DIR, UNFADE_SOURCE_DIR, stage_steps, losses, more);
    fclose(f);
    return path;
}

static void refuse(const char *more, const char *word) {
    uf_ctx *ctx;
    uf_recipe *r = NULL;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    assert_int_equal(uf_recipe_open(&r, ctx, recipe(more, 3)), UF_EINVAL);
    if (!strstr(uf_ctx_error(ctx), word)) fail_msg("'%s' does not tell of '%s'", uf_ctx_error(ctx), word);
    uf_ctx_close(&ctx);
}

static void test_recipes(void **state) {
    (void)state;
    refuse("lerning_rate: 3\n", "lerning_rate");
    refuse("workers: many\n", "workers");
    refuse("grey: 7\n", "grey");
    losses = "{lpips: 1}";
    refuse("", "lpips");
    losses = "{feature: 1}";
    refuse("", "features: WEIGHTS");
    losses = "{l1: 1}";
}

static const char *extra = "";

typedef struct stop {
    uf_ctx *ctx;
    int64_t at;
} stop;

static void stop_at(void *user, const uf_train_progress *p) {
    stop *s = user;
    if (p->step == s->at) uf_ctx_cancel(s->ctx);
}

static int train(const char *out, int threads, int64_t stop_after, bool resume) {
    uf_ctx *ctx;
    char dir[96];
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    uf_ctx_set_threads(ctx, threads);
    snprintf(dir, sizeof dir, "%s/%s", folder, out);
    stop s = {ctx, stop_after};
    int err = uf_train(ctx, recipe(extra, 3), &(uf_train_options){.out_dir = dir, .resume = resume, .progress = stop_at, .user = &s});
    if (err < 0 && err != UF_EINTR) print_message("%s\n", uf_ctx_error(ctx));
    uf_ctx_close(&ctx);
    return err;
}

static void checksum(const char *run, const char *file, char *to) {
    uf_ctx *ctx;
    uf_weights *w = NULL;
    char path[128];
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    snprintf(path, sizeof path, "%s/%s/%s", folder, run, file);
    assert_int_equal(uf_weights_open(&w, ctx, path), UF_OK);
    snprintf(to, 80, "%s", uf_weights_meta(w, "sha256"));
    uf_weights_close(&w);
    uf_ctx_close(&ctx);
}

/* What was held out was looked at once a stage, and a run that was stopped knows it all. */
static void same_looks(const char *a, const char *b) {
    char text[2][512], path[128];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s/held_out.csv", folder, i ? b : a);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        text[i][fread(text[i], 1, sizeof text[i] - 1, f)] = 0;
        fclose(f);
    }
    assert_string_equal(text[0], text[1]);
    assert_non_null(strstr(text[0], "\n3,"));
    assert_non_null(strstr(text[0], "\n5,"));
}

static void test_resume_to_the_same_bits(void **state) {
    (void)state;
    char whole[80], again[80], resumed[80];
    assert_int_equal(train("whole", 2, 0, false), UF_OK);
    assert_int_equal(train("again", 1, 0, false), UF_OK); /* nor does the number of threads change them */
    assert_int_equal(train("resumed", 2, 2, false), UF_EINTR);
    assert_int_equal(train("resumed", 2, 4, true), UF_EINTR);
    assert_int_equal(train("resumed", 2, 0, true), UF_OK);
    checksum("whole", "w.safetensors", whole);
    checksum("again", "w.safetensors", again);
    checksum("resumed", "w.safetensors", resumed);
    assert_string_equal(whole, again);
    assert_string_equal(whole, resumed);
    same_looks("whole", "resumed");
    assert_int_equal(train("whole", 2, 0, false), UF_EEXIST);
}

/* The first step's gradients, with norms that do not look at the batch. */
static void gradients(int batch, int accumulate, uf_params **out, uf_ctx *ctx) {
    uf_recipe *r;
    uf_data *data = NULL;
    uf_loader *loader = NULL;
    uf_network n;
    uf_stepped t;
    assert_int_equal(uf_recipe_open(&r, ctx, recipe("", 3)), UF_OK);
    r->clip = 0;
    assert_int_equal(uf_data_open(&data, ctx, r->train, (int)r->train_count), UF_OK);
    assert_int_equal(uf_params_open(out, ctx, 3), UF_OK);
    uf_loader_options o = {.seed = 5, .size = 32, .batch = batch, .workers = 1, .n = accumulate, .smallest = .5f};
    assert_int_equal(uf_network_open(&n, ctx, &(uf_network_options){.r = r, .params = *out, .batch = batch, .size = 32,
                                                                    .train = true, .fixed = true}), UF_OK);
    assert_int_equal(uf_loader_open(&loader, ctx, data, &o), UF_OK);
    uf_learner l = {ctx, r, *out, &n, loader, accumulate, {0, 1}};
    assert_int_equal(uf_learn(&l, 0, (uf_cycle){1e-3f, .9f}, &t), UF_OK);
    uf_loader_close(&loader);
    uf_network_close(&n);
    uf_data_close(&data);
    uf_recipe_close(&r);
}

static void test_accumulate(void **state) {
    (void)state;
    if (WATCHING_THREADS) skip();
    uf_ctx *ctx;
    uf_params *one, *two;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    gradients(4, 1, &one, ctx);
    gradients(2, 2, &two, ctx);
    double difference = 0, length = 0;
    for (int i = 0; i < uf_params_n(one); i++) {
        const uf_param *a = uf_params_at(one, i), *b = uf_params_at(two, i);
        for (size_t k = 0; a->grad && k < uf_count(a->shape); k++) {
            double d = (double)a->grad[k] - (double)b->grad[k];
            difference += d * d;
            length += (double)a->grad[k] * (double)a->grad[k];
        }
    }
    assert_true(length > 0);
    if (difference > 4e-4 * length) fail_msg("gradients differ by %.2g of their length", sqrt(difference / length));
    uf_params_close(&one);
    uf_params_close(&two);
    uf_ctx_close(&ctx);
}

/* The plot, the two rates, and a batch chosen for the memory. */
static void test_lr_find(void **state) {
    (void)state;
    if (WATCHING_THREADS) skip();
    uf_ctx *ctx;
    uf_lr_found f;
    char plot[96], line[96];
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    snprintf(plot, sizeof plot, "%s/rates.svg", folder);
    uf_lr_find_options o = {.steps = 40, .from = 1e-6, .to = 30, .plot = plot};
    if (uf_lr_find(ctx, recipe("", 3), &o, &f) < 0) fail_msg("%s", uf_ctx_error(ctx));
    assert_true(f.n >= 20 && f.n <= 40);
    assert_true(f.valley > 1e-6 && f.valley < .1 && f.steepest > 1e-6);
    uf_lr_found_free(&f);
    FILE *svg = fopen(plot, "r");
    assert_non_null(svg);
    assert_non_null(fgets(line, sizeof line, svg));
    assert_non_null(strstr(line, "<?xml"));
    fclose(svg);
    assert_int_equal(uf_lr_find(ctx, recipe("", 3), &o, &f), UF_EEXIST);
    o.stage = 2;
    o.plot = NULL;
    uf_ctx_clear(ctx);
    assert_int_equal(uf_lr_find(ctx, recipe("", 3), &o, &f), UF_EINVAL);
    uf_ctx_close(&ctx);
}

static void test_chosen_batch(void **state) {
    (void)state;
    if (WATCHING_THREADS) skip();
    uf_ctx *ctx;
    uf_lr_found f;
    char path[96];
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    snprintf(path, sizeof path, "%s/memory.yaml", folder);
    for (int mb = 1; mb <= 40; mb += 39) { /* too little for one picture; enough for some */
        FILE *to = fopen(path, "w");
        fprintf(to, "model: color\nout: w.safetensors\ntrain: [{path: %s/samples/pictures}]\nvalid: [{path: %s/samples/pictures}]\n"
                    "stages: [{size: 32, steps: 3, rate: 0.001}]\nlosses: {l1: 1}\nmemory: %d\n",
                UNFADE_SOURCE_DIR, UNFADE_SOURCE_DIR, mb);
        fclose(to);
        int err = uf_lr_find(ctx, path, &(uf_lr_find_options){.steps = 20, .from = 1e-6, .to = 1e-3}, &f);
        assert_int_equal(err, mb == 1 ? UF_EINVAL : UF_OK);
        if (mb == 1) assert_non_null(strstr(uf_ctx_error(ctx), "memory"));
        else uf_lr_found_free(&f);
        uf_ctx_clear(ctx);
    }
    uf_ctx_close(&ctx);
}

/* The page is whole, holds its pictures itself, and asks for nothing outside. */
static void test_inspect(void **state) {
    (void)state;
    if (WATCHING_THREADS) skip();
    uf_ctx *ctx;
    uf_inspected seen;
    char page[96];
    size_t room = 16u << 20, n;
    const char *paths[] = {UNFADE_SOURCE_DIR "/samples/pictures"};
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    snprintf(page, sizeof page, "%s/inspect.html", folder);
    uf_inspect_options o = {.weights = UNFADE_SOURCE_DIR "/models/weights/color.safetensors", .paths = paths, .n_paths = 1,
                            .size = 64, .out = page};
    if (uf_inspect(ctx, &o, &seen) < 0) fail_msg("%s", uf_ctx_error(ctx));
    assert_true(seen.n_pictures > 0 && seen.n_layers > 20 && seen.n_dead >= 0);
    char *text = calloc(room, 1);
    FILE *f = fopen(page, "r");
    assert_non_null(f);
    n = fread(text, 1, room - 1, f);
    fclose(f);
    assert_true(n > 10000 && strstr(text, "</html>"));
    assert_null(strstr(text, "http"));
    int images = 0;
    for (const char *p = text; (p = strstr(p, "data:image/png;base64,")); p++) images++;
    assert_int_equal(images, seen.n_layers + 1);
    free(text);
    assert_int_equal(uf_inspect(ctx, &o, &seen), UF_EEXIST);
    uf_ctx_clear(ctx);
    o.size = 50;
    assert_int_equal(uf_inspect(ctx, &o, &seen), UF_EINVAL);
    uf_ctx_clear(ctx);
    o.size = 64;
    o.overwrite = true;
    o.run = folder; /* no run is there */
    assert_int_equal(uf_inspect(ctx, &o, &seen), UF_EINVAL);
    assert_non_null(strstr(uf_ctx_error(ctx), "log.csv"));
    uf_ctx_close(&ctx);
}

static int count_lines(const char *file) {
    char path[128];
    int n = 0;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (int c; (c = getc(f)) != EOF;) n += c == '\n';
    fclose(f);
    return n;
}

static double first_feature_loss(const char *file) {
    char path[128], line[512];
    double feature = -1;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    assert_non_null(strstr(line, "critic_loss,ciede2000,feature,"));
    assert_non_null(fgets(line, sizeof line, f));
    assert_int_equal(sscanf(line, "%*f,%*f,%*f,%*f,%lf", &feature), 1);
    fclose(f);
    return feature;
}

/* Stopped while the critic learns alone, between two checks, and at a check. */
static void test_finish_resumes_to_the_same_bits(void **state) {
    (void)state;
    char whole[80], resumed[80], features[600];
    snprintf(features, sizeof features, "features: %s/models/weights/features.safetensors\nfinish:\n"
             "  {size: 32, batch: 2, critic_steps: 3, steps: 6, check_every: 2, rate: 0.001, gate: 5, noise: 0.05,"
             " losses: {feature: 1}}\n", UNFADE_SOURCE_DIR);
    extra = features;
    assert_int_equal(train("finish", 2, 0, false), UF_OK);
    assert_int_equal(train("finish-r", 2, 7, false), UF_EINTR);
    if (!WATCHING_THREADS) {
        assert_int_equal(train("finish-r", 2, 9, true), UF_EINTR);
        assert_int_equal(train("finish-r", 2, 10, true), UF_EINTR);
    }
    assert_int_equal(train("finish-r", 2, 0, true), UF_OK);
    static const char *const files[] = {"w.safetensors", "checkpoint.safetensors", "critic-14.safetensors"};
    for (int i = 0; i < UF_LEN(files); i++) {
        checksum("finish", files[i], whole);
        checksum("finish-r", files[i], resumed);
        assert_string_equal(whole, resumed);
    }
    assert_int_equal(count_lines("finish/finish.csv"), 1 + 4); /* a head; checks at 0, 2, 4 and 6 steps */
    assert_int_equal(count_lines("finish-r/finish.csv"), 1 + 4);
    assert_true(first_feature_loss("finish/finish.csv") > .01); /* the frozen network sees, though no stage asked it to */
    if (WATCHING_THREADS) {
        extra = "";
        return;
    }
    snprintf(features, sizeof features, "features: %s/models/weights/features.safetensors\nfinish:\n"
             "  {size: 32, batch: 2, critic_steps: 3, steps: 2, check_every: 2, rate: 0.001, gate: 5, hinge: true,"
             " losses: {l1: 1, temporal: 1}}\n", UNFADE_SOURCE_DIR);
    assert_int_equal(train("hinge", 2, 0, false), UF_OK);
    assert_int_equal(count_lines("hinge/finish.csv"), 1 + 2);
    extra = "";
    assert_int_equal(train("no-finish", 2, 0, false), UF_OK);
    checksum("finish", files[1], whole);
    checksum("no-finish", files[1], resumed);
    assert_string_not_equal(whole, resumed); /* it did learn */
}

/* Crops of one photograph, with a blue cast, stand for the frames of a film. Tuned weights come nearer to its colours than plain ones, on
 * what was held back too; a tune is refused by weights that it was not made for. */
static void paint_references(const char *dir, const char *from) {
    char cmd[1024];
    snprintf(cmd, sizeof cmd, "mkdir -p '%s' && for i in 0 1 2 3 4 5 6 7; do ffmpeg -v error -y -i '%s' -vf "
             "\"crop=192:192:$((i * 24)):$((i * 20)),colorbalance=bs=.6:bm=.6:bh=.6\" '%s'/$i.png || exit 1; done", dir, from, dir);
    assert_int_equal(system(cmd), 0);
}

static void test_tune(void **state) {
    (void)state;
    if (WATCHING_THREADS) skip();
    if (system("command -v ffmpeg >/dev/null 2>&1")) skip();
    uf_ctx *ctx;
    char dir[128], from[512], color[512], features[512], out[128];
    snprintf(dir, sizeof dir, "%s/references", folder);
    snprintf(from, sizeof from, "%s/samples/pictures/coffee.jpg", UNFADE_SOURCE_DIR);
    snprintf(color, sizeof color, "%s/models/weights/color.safetensors", UNFADE_SOURCE_DIR);
    snprintf(features, sizeof features, "%s/models/weights/features.safetensors", UNFADE_SOURCE_DIR);
    snprintf(out, sizeof out, "%s/film.tune", folder);
    paint_references(dir, from);
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    const char *references[] = {dir};
    uf_tune_options o = {.weights = color, .features = features, .out = out, .references = references, .n_references = 1,
                         .steps = 12};
    uf_tuned t = {0};
    uf_evaluation plain, tuned;
    if (uf_tune(ctx, &o, &t) < 0) fail_msg("%s", uf_ctx_error(ctx));
    assert_int_equal(t.n_learnt, 6);
    assert_int_equal(t.n_held_back, 2);
    assert_true(t.after.ciede2000 < .9 * t.before.ciede2000);
    assert_int_equal(uf_evaluate(ctx, color, NULL, 1, references, 0, 1, NULL, &plain), UF_OK);
    assert_int_equal(uf_evaluate(ctx, color, out, 1, references, 0, 1, NULL, &tuned), UF_OK);
    assert_true(tuned.network.ciede2000 < .9 * plain.network.ciede2000);
    assert_int_equal(uf_tune(ctx, &o, &t), UF_EEXIST);
    uf_ctx_clear(ctx);
    assert_int_equal(uf_evaluate(ctx, color, features, 1, references, 0, 1, NULL, &tuned), UF_EDATA);
    assert_non_null(strstr(uf_ctx_error(ctx), "no file of 'unfade tune'"));
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_cycle),
        cmocka_unit_test(test_recipes),
        cmocka_unit_test(test_resume_to_the_same_bits),
        cmocka_unit_test(test_accumulate),
        cmocka_unit_test(test_lr_find),
        cmocka_unit_test(test_chosen_batch),
        cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_tune),
        cmocka_unit_test(test_finish_resumes_to_the_same_bits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
