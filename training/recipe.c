/* Recipes: YAML read into structs by schema, so that a misspelt key is refused by name. */
#include "training.h"

#include <cyaml/cyaml.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define OPT CYAML_FLAG_OPTIONAL

static const cyaml_schema_value_t name_value = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 4096)};

static const cyaml_schema_field_t source_fields[] = {
    CYAML_FIELD_STRING_PTR("path", CYAML_FLAG_POINTER, uf_source, path, 1, 4096),
    CYAML_FIELD_FLOAT("weight", OPT, uf_source, weight),
    CYAML_FIELD_BOOL("labelled", OPT, uf_source, labelled),
    CYAML_FIELD_INT("exclude_every", OPT, uf_source, exclude_every),
    CYAML_FIELD_INT("only_every", OPT, uf_source, only_every),
    CYAML_FIELD_FLOAT("dynamic_range", OPT, uf_source, dynamic_range),
    CYAML_FIELD_SEQUENCE("exclude", CYAML_FLAG_POINTER | OPT, uf_source, exclude, &name_value, 0, 100000),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t source_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, uf_source, source_fields),
};

static const cyaml_schema_field_t stage_fields[] = {
    CYAML_FIELD_INT("size", CYAML_FLAG_DEFAULT, uf_stage, size),
    CYAML_FIELD_INT("batch", OPT, uf_stage, batch),
    CYAML_FIELD_INT("accumulate", OPT, uf_stage, accumulate),
    CYAML_FIELD_INT("steps", CYAML_FLAG_DEFAULT, uf_stage, steps),
    CYAML_FIELD_FLOAT("rate", CYAML_FLAG_DEFAULT, uf_stage, rate),
    CYAML_FIELD_BOOL("constant", OPT, uf_stage, constant),
    CYAML_FIELD_STRING_PTR("freeze", CYAML_FLAG_POINTER | OPT, uf_stage, freeze, 0, UF_FREEZE_MAX),
    CYAML_FIELD_FLOAT("noise", OPT, uf_stage, noise),
    CYAML_FIELD_FLOAT("smallest", OPT, uf_stage, smallest),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t stage_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, uf_stage, stage_fields),
};

static const cyaml_schema_field_t finish_fields[] = {
    CYAML_FIELD_INT("size", CYAML_FLAG_DEFAULT, uf_finish, size),
    CYAML_FIELD_INT("batch", CYAML_FLAG_DEFAULT, uf_finish, batch),
    CYAML_FIELD_INT("critic_steps", CYAML_FLAG_DEFAULT, uf_finish, critic_steps),
    CYAML_FIELD_INT("steps", CYAML_FLAG_DEFAULT, uf_finish, steps),
    CYAML_FIELD_INT("check_every", OPT, uf_finish, check_every),
    CYAML_FIELD_INT("patience", OPT, uf_finish, patience),
    CYAML_FIELD_FLOAT("critic_rate", OPT, uf_finish, critic_rate),
    CYAML_FIELD_FLOAT("rate", OPT, uf_finish, rate),
    CYAML_FIELD_BOOL("hinge", OPT, uf_finish, hinge),
    CYAML_FIELD_FLOAT("gate", OPT, uf_finish, gate),
    CYAML_FIELD_FLOAT("adversarial", OPT, uf_finish, adversarial),
    CYAML_FIELD_FLOAT("noise", OPT, uf_finish, noise),
    CYAML_FIELD_FLOAT("smallest", OPT, uf_finish, smallest),
    CYAML_FIELD_MAPPING("losses", CYAML_FLAG_DEFAULT, uf_finish, losses, NULL),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t float_value = {CYAML_VALUE_FLOAT(CYAML_FLAG_DEFAULT, float)};

static const cyaml_schema_field_t recipe_fields[] = {
    CYAML_FIELD_STRING_PTR("model", CYAML_FLAG_POINTER, uf_recipe, model, 1, 64),
    CYAML_FIELD_STRING_PTR("out", CYAML_FLAG_POINTER, uf_recipe, out, 1, 255),
    CYAML_FIELD_STRING_PTR("init", CYAML_FLAG_POINTER | OPT, uf_recipe, init, 1, 4096),
    CYAML_FIELD_STRING_PTR("features", CYAML_FLAG_POINTER | OPT, uf_recipe, features, 1, 4096),
    CYAML_FIELD_STRING_PTR("licence", CYAML_FLAG_POINTER | OPT, uf_recipe, licence, 1, 4096),
    CYAML_FIELD_UINT("seed", OPT, uf_recipe, seed),
    CYAML_FIELD_SEQUENCE("train", CYAML_FLAG_POINTER, uf_recipe, train, &source_value, 1, 256),
    CYAML_FIELD_SEQUENCE("valid", CYAML_FLAG_POINTER, uf_recipe, valid, &source_value, 1, 256),
    CYAML_FIELD_SEQUENCE("noises", CYAML_FLAG_POINTER | OPT, uf_recipe, noises, &source_value, 0, 256),
    CYAML_FIELD_SEQUENCE("valid_noises", CYAML_FLAG_POINTER | OPT, uf_recipe, valid_noises, &source_value, 0, 256),
    CYAML_FIELD_SEQUENCE("stages", CYAML_FLAG_POINTER | OPT, uf_recipe, stages, &stage_value, 0, 64),
    CYAML_FIELD_MAPPING_PTR("finish", CYAML_FLAG_POINTER | OPT, uf_recipe, finish, finish_fields),
    CYAML_FIELD_MAPPING("losses", CYAML_FLAG_DEFAULT, uf_recipe, losses, NULL), /* its keys are the losses' table */
    CYAML_FIELD_SEQUENCE("feature_layers", CYAML_FLAG_POINTER | OPT, uf_recipe, feature_layers, &float_value, 1,
                         UF_N_STAGES),
    CYAML_FIELD_FLOAT("beta2", OPT, uf_recipe, beta2),
    CYAML_FIELD_FLOAT("decay", OPT, uf_recipe, decay),
    CYAML_FIELD_FLOAT("clip", OPT, uf_recipe, clip),
    CYAML_FIELD_FLOAT("average", OPT, uf_recipe, average),
    CYAML_FIELD_SEQUENCE("group_rates", CYAML_FLAG_POINTER | OPT, uf_recipe, group_rates, &float_value, 1, 16),
    CYAML_FIELD_FLOAT("grey", OPT, uf_recipe, grey),
    CYAML_FIELD_FLOAT("smoothing", OPT, uf_recipe, smoothing),
    CYAML_FIELD_FLOAT("codecs", OPT, uf_recipe, codecs),
    CYAML_FIELD_FLOAT("hiss", OPT, uf_recipe, hiss),
    CYAML_FIELD_FLOAT("quiet", OPT, uf_recipe, quiet),
    CYAML_FIELD_INT("mics", OPT, uf_recipe, mics),
    CYAML_FIELD_FLOAT_PTR("room", CYAML_FLAG_POINTER | OPT, uf_recipe, room),
    CYAML_FIELD_FLOAT("gain", OPT, uf_recipe, gain),
    CYAML_FIELD_FLOAT("saturation_min", OPT, uf_recipe, saturation_min),
    CYAML_FIELD_INT("memory", OPT, uf_recipe, memory),
    CYAML_FIELD_INT("checkpoint_every", OPT, uf_recipe, checkpoint_every),
    CYAML_FIELD_INT("sample_every", OPT, uf_recipe, sample_every),
    CYAML_FIELD_INT("valid_every", OPT, uf_recipe, valid_every),
    CYAML_FIELD_INT("workers", OPT, uf_recipe, workers),
    CYAML_FIELD_END,
};

/* The schema with the keys of `losses` filled in: a new loss is a word in its room's table and nothing here. */
typedef struct schema {
    cyaml_schema_field_t loss[UF_MAX_LOSSES + 1], finish[UF_LEN(finish_fields)], field[UF_LEN(recipe_fields)];
    cyaml_schema_value_t value;
} schema;

static void patch(cyaml_schema_field_t *fields, const char *key, const cyaml_schema_field_t *with) {
    for (int i = 0; fields[i].key; i++)
        if (!strcmp(fields[i].key, key)) fields[i].value.mapping.fields = with;
}

static const cyaml_schema_value_t *schema_fill(schema *s) {
    memset(s, 0, sizeof *s);
    for (int i = 0; uf_losses[i]; i++)
        s->loss[i] = (cyaml_schema_field_t){.key = uf_losses[i]->name,
                                            .data_offset = (uint32_t)((size_t)i * sizeof(float)),
                                            .value = {CYAML_VALUE_FLOAT(OPT, float)}};
    memcpy(s->field, recipe_fields, sizeof recipe_fields);
    memcpy(s->finish, finish_fields, sizeof finish_fields);
    patch(s->finish, "losses", s->loss);
    patch(s->field, "losses", s->loss);
    patch(s->field, "finish", s->finish);
    s->value = (cyaml_schema_value_t){CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, uf_recipe, s->field)};
    return &s->value;
}

/* libcyaml tells what is wrong through its log: the first line is the reason, later ones where it stands. */
typedef struct complaint {
    char text[512];
} complaint;

static void listen(cyaml_log_t level, void *user, const char *fmt, va_list args) {
    complaint *c = user;
    size_t n = strlen(c->text);
    if (level < CYAML_LOG_WARNING || n + 2 >= sizeof c->text) return;
    vsnprintf(c->text + n, sizeof c->text - n, fmt, args);
    for (char *p = c->text + n; *p; p++)
        if (*p == '\n') *p = ' ';
}

static void cut_out(char *text, const char *what) {
    size_t n = strlen(what);
    for (char *p = text; (p = strstr(p, what));) memmove(p, p + n, strlen(p + n) + 1);
}

/* The library's words without its own furniture. */
static const char *reason(complaint *c, cyaml_err_t e) {
    cut_out(c->text, "Load: ");
    cut_out(c->text, "Backtrace: ");
    cut_out(c->text, "libyaml: ");
    size_t n = strlen(c->text);
    while (n > 0 && c->text[n - 1] == ' ') c->text[--n] = 0;
    return n ? c->text : cyaml_strerror(e);
}

static const cyaml_config_t *config(cyaml_config_t *c, complaint *to) {
    *c = (cyaml_config_t){.log_fn = listen, .log_ctx = to, .mem_fn = cyaml_mem, .log_level = CYAML_LOG_WARNING};
    return c;
}

static int range(uf_ctx *ctx, const char *path, const char *key, double v, double from, double to) {
    if (v >= from && v <= to) return UF_OK;
    return uf_fail(ctx, UF_EINVAL, "recipe '%s': %s is %g; it must be from %g to %g", path, key, v, from, to);
}

static int check_losses(uf_ctx *ctx, const char *path, const uf_recipe *r, const float *weight) {
    bool sound = uf_recipe_sound(r);
    for (int i = 0; uf_losses[i]; i++) {
        if (uf_losses[i]->sound && weight[i] > 0 && !sound)
            return uf_fail(ctx, UF_EINVAL, "recipe '%s': the loss '%s' is for sound, model '%s' makes pictures", path, uf_losses[i]->name,
                           r->model);
        UF_TRY(range(ctx, path, uf_losses[i]->name, (double)weight[i], 0, 1e9));
        if (uf_losses[i]->looks && weight[i] > 0 && !r->features)
            return uf_fail(ctx, UF_EINVAL, "recipe '%s': the loss '%s' needs 'features: WEIGHTS'", path, uf_losses[i]->name);
    }
    return UF_OK;
}

static int check_finish(uf_ctx *ctx, const char *path, const uf_recipe *r, const uf_model *m) {
    const uf_finish *f = r->finish;
    if (!m->rate && (strcmp(r->model, "color") || !r->features))
        return uf_fail(ctx, UF_EINVAL, "recipe '%s': a finish is for model 'color', with 'features: WEIGHTS' to measure by, and for those of sound", path);
    UF_TRY(m->rate ? range(ctx, path, "finish: size", f->size, 16384, 60 * m->rate) : range(ctx, path, "finish: size", f->size, m->multiple, 1024));
    if (f->size % m->multiple)
        return uf_fail(ctx, UF_EINVAL, "recipe '%s': size %d of the finish is not a multiple of %d", path, f->size, m->multiple);
    UF_TRY(range(ctx, path, "finish: batch", f->batch, 1, 4096));
    UF_TRY(range(ctx, path, "finish: critic_steps", f->critic_steps, 1, 1e8));
    UF_TRY(range(ctx, path, "finish: steps", f->steps, 1, 1e8));
    UF_TRY(range(ctx, path, "finish: check_every", f->check_every, 1, 1e8));
    UF_TRY(range(ctx, path, "finish: patience", f->patience, 1, 1e8));
    UF_TRY(range(ctx, path, "finish: critic_rate", (double)f->critic_rate, 1e-9, 1));
    UF_TRY(range(ctx, path, "finish: rate", (double)f->rate, 1e-9, 1));
    UF_TRY(range(ctx, path, "finish: gate", (double)f->gate, 0, 10));
    UF_TRY(range(ctx, path, "finish: adversarial", (double)f->adversarial, 0, 1e6));
    UF_TRY(range(ctx, path, "finish: noise", (double)f->noise, 0, .3));
    UF_TRY(range(ctx, path, "finish: smallest", (double)f->smallest, 0, 1));
    return check_losses(ctx, path, r, f->losses);
}

static int check_sources(uf_ctx *ctx, const char *path, const uf_recipe *r, const uf_source *s, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        UF_TRY(range(ctx, path, "dynamic_range", (double)s[i].dynamic_range, 0, 90));
        if (s[i].dynamic_range > 0 && !uf_recipe_sound(r)) return uf_fail(ctx, UF_EINVAL, "recipe '%s': 'dynamic_range' is for sound, model '%s' is of pictures", path, r->model);
    }
    return UF_OK;
}

/* Recordings that hear each other come as scenes. */
static int check_mics(uf_ctx *ctx, const char *path, const uf_recipe *r) {
    bool together = !strcmp(r->model, uf_model_speech_array.name);
    if (r->mics && !together) return uf_fail(ctx, UF_EINVAL, "recipe '%s': 'mics' is for model '%s'", path, uf_model_speech_array.name);
    if (!together) return UF_OK;
    UF_TRY(range(ctx, path, "mics", r->mics, 2, UF_RECIPE_MICS));
    if (r->finish) return uf_fail(ctx, UF_EINVAL, "recipe '%s': model '%s' has no finish", path, r->model);
    for (unsigned i = 0; i < r->stages_count; i++)
        if (!r->stages[i].batch || r->stages[i].batch % r->mics)
            return uf_fail(ctx, UF_EINVAL, "recipe '%s': a batch of %d is not whole scenes of %d microphones", path, r->stages[i].batch, r->mics);
    return UF_OK;
}

static int check(uf_ctx *ctx, const char *path, const uf_recipe *r) {
    const uf_model *m = uf_model_find(r->model);
    if (!m) return uf_fail(ctx, UF_EINVAL, "recipe '%s': there is no model '%s'; 'unfade models' lists them", path, r->model);
    if (!m->file) return uf_fail(ctx, UF_EINVAL, "recipe '%s': model '%s' only learns beside another, in a 'finish'", path, m->name);
    for (unsigned i = 0; i < r->stages_count; i++) {
        const uf_stage *s = &r->stages[i];
        UF_TRY(m->rate ? range(ctx, path, "size", s->size, 4096, 60 * m->rate) : range(ctx, path, "size", s->size, m->multiple, 1024));
        if (s->size % m->multiple)
            return uf_fail(ctx, UF_EINVAL, "recipe '%s': size %d is not a multiple of %d", path, s->size, m->multiple);
        UF_TRY(range(ctx, path, "batch", s->batch, 0, 4096));
        UF_TRY(range(ctx, path, "accumulate", s->accumulate, 1, 4096));
        UF_TRY(range(ctx, path, "steps", s->steps, 1, 1e8));
        UF_TRY(range(ctx, path, "rate", (double)s->rate, 1e-9, 1));
        UF_TRY(range(ctx, path, "noise", (double)s->noise, 0, .3));
        UF_TRY(range(ctx, path, "smallest", (double)s->smallest, 0, 1));
    }
    UF_TRY(check_sources(ctx, path, r, r->train, r->train_count));
    UF_TRY(check_sources(ctx, path, r, r->valid, r->valid_count));
    UF_TRY(check_sources(ctx, path, r, r->noises, r->noises_count));
    UF_TRY(check_sources(ctx, path, r, r->valid_noises, r->valid_noises_count));
    UF_TRY(range(ctx, path, "beta2", (double)r->beta2, .5, .99999));
    UF_TRY(range(ctx, path, "average", (double)r->average, 0, .99999));
    UF_TRY(range(ctx, path, "grey", (double)r->grey, 0, 1));
    UF_TRY(range(ctx, path, "smoothing", (double)r->smoothing, 0, .9));
    UF_TRY(range(ctx, path, "codecs", (double)r->codecs, 0, 1));
    UF_TRY(range(ctx, path, "hiss", (double)r->hiss, 0, 1));
    UF_TRY(range(ctx, path, "quiet", (double)r->quiet, 0, 1));
    UF_TRY(check_mics(ctx, path, r));
    if (r->room) UF_TRY(range(ctx, path, "room", (double)*r->room, 0, 100));
    UF_TRY(range(ctx, path, "gain", (double)r->gain, 0, 3));
    UF_TRY(range(ctx, path, "memory", r->memory, 1, 1e8));
    UF_TRY(range(ctx, path, "workers", r->workers, 1, 256));
    UF_TRY(check_losses(ctx, path, r, r->losses));
    if (!r->stages_count && !r->finish)
        return uf_fail(ctx, UF_EINVAL, "recipe '%s': there is nothing to do; give 'stages', a 'finish' or both", path);
    return r->finish ? check_finish(ctx, path, r, m) : UF_OK;
}

/* Recipes move with their data: paths in them count from where they lie. */
static int locate(uf_ctx *ctx, const char *recipe, char **path) {
    const char *slash = strrchr(recipe, '/');
    if (!*path || **path == '/' || !slash) return UF_OK;
    char *full = uf_format(ctx, "%.*s/%s", (int)(slash - recipe), recipe, *path);
    if (!full) return UF_ENOMEM;
    free(*path);
    *path = full;
    return UF_OK;
}

static int locate_all(uf_ctx *ctx, const char *path, uf_recipe *r) {
    UF_TRY(locate(ctx, path, &r->init));
    UF_TRY(locate(ctx, path, &r->features));
    for (unsigned i = 0; i < r->train_count; i++) UF_TRY(locate(ctx, path, &r->train[i].path));
    for (unsigned i = 0; i < r->valid_count; i++) UF_TRY(locate(ctx, path, &r->valid[i].path));
    for (unsigned i = 0; i < r->noises_count; i++) UF_TRY(locate(ctx, path, &r->noises[i].path));
    for (unsigned i = 0; i < r->valid_noises_count; i++) UF_TRY(locate(ctx, path, &r->valid_noises[i].path));
    return UF_OK;
}

static void defaults(uf_recipe *r) {
    if (r->beta2 == 0) r->beta2 = .99f;
    if (r->workers == 0) r->workers = 1;
    if (r->memory == 0) r->memory = 4000;
    for (unsigned i = 0; i < r->stages_count; i++)
        if (r->stages[i].accumulate == 0) r->stages[i].accumulate = 1;
    if (r->checkpoint_every == 0) r->checkpoint_every = 500;
    if (r->sample_every == 0) r->sample_every = 500;
    if (r->valid_every == 0) r->valid_every = 500;
    uf_finish *f = r->finish;
    if (!f) return;
    if (f->check_every == 0) f->check_every = 25;
    if (f->patience == 0) f->patience = 4;
    if (f->critic_rate == 0) f->critic_rate = 5e-4f;
    if (f->rate == 0) f->rate = 2e-5f;
    if (f->gate == 0) f->gate = f->hinge ? .94f : .65f; /* as far below guessing */
    if (f->adversarial == 0) f->adversarial = 1.f;
}

int uf_recipe_open(uf_recipe **out, uf_ctx *ctx, const char *path) {
    cyaml_config_t c;
    complaint why = {""};
    schema s;
    uf_recipe *r = NULL;
    cyaml_err_t e = cyaml_load_file(path, config(&c, &why), schema_fill(&s), (cyaml_data_t **)&r, NULL);
    if (e == CYAML_ERR_FILE_OPEN) return uf_fail(ctx, UF_EINVAL, "cannot open recipe '%s'; check the path", path);
    if (e != CYAML_OK)
        return uf_fail(ctx, UF_EINVAL, "cannot read recipe '%s': %s; a recipe is a YAML file, samples/recipes/ has some", path,
                       reason(&why, e));
    defaults(r);
    int err = check(ctx, path, r);
    if (err == UF_OK) err = locate_all(ctx, path, r);
    if (err < 0) uf_recipe_close(&r);
    else *out = r;
    return err;
}

const uf_model *uf_recipe_judge(const uf_recipe *r) {
    int rate = uf_model_find(r->model)->rate;
    return !rate ? &uf_model_features : rate == uf_model_speech_wide.rate ? &uf_model_speech_wide : &uf_model_speech;
}

bool uf_recipe_sound(const uf_recipe *r) { return uf_model_find(r->model)->rate > 0; }

float uf_recipe_room(const uf_recipe *r) {
    return !uf_model_find(r->model)->rooms ? 0.f : r->room ? *r->room : .5f;
}

void uf_recipe_close(uf_recipe **r) {
    cyaml_config_t c;
    complaint why;
    schema s;
    if (*r) cyaml_free(config(&c, &why), schema_fill(&s), *r, 0);
    *r = NULL;
}
