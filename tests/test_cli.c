/* The real program as people and scripts meet it: help, exit codes, one sentence an error, JSON that parses. */
#include "unfade.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SOURCE UNFADE_SOURCE_DIR
#define FEATURES SOURCE "/models/weights/features.safetensors"

typedef struct said { /* of one run of the program */
    int code;          /* exit code; -1: killed */
    char out[1 << 17], err[1 << 14];
} said;

static char dir[64];

static void slurp(const char *name, char *to, size_t n) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    size_t got = f ? fread(to, 1, n - 1, f) : 0;
    to[got] = 0;
    if (f) fclose(f);
}

/* Runs a command by the shell, inside the test's folder. */
static void shell(said *s, const char *command) {
    char line[2048];
    snprintf(line, sizeof(line), "cd '%s' && { %s; } >out 2>err </dev/null", dir, command);
    int status = system(line);
    s->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    slurp("out", s->out, sizeof(s->out));
    slurp("err", s->err, sizeof(s->err));
}

static void write_file(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static bool is_there(const char *name) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return !access(path, F_OK);
}

static void unfade(said *s, const char *args) {
    char line[1536];
    snprintf(line, sizeof(line), "'%s' %s", UNFADE_PROGRAM, args);
    shell(s, line);
}

/* An error is one line, "unfade: " and a sentence that names `subject`. */
static void check_sentence(const said *s, const char *subject) {
    if (strncmp(s->err, "unfade", 6) || !strstr(s->err, subject)) fail_msg("not a sentence about %s: %s", subject, s->err);
    const char *end = strchr(s->err, '\n');
    if (!end || end[1]) fail_msg("not one line: %s", s->err);
}

/* Calls `each` for every command that the program itself lists. */
static void for_commands(void (*each)(const char *name)) {
    said *s = calloc(1, sizeof(*s));
    int n = 0;
    unfade(s, "--list-commands");
    assert_int_equal(s->code, 0);
    for (char *save, *name = strtok_r(s->out, "\n", &save); name; name = strtok_r(NULL, "\n", &save), n++) each(name);
    assert_true(n >= 6);
    free(s);
}

static void check_help(const char *name) {
    said *s = calloc(1, sizeof(*s)), *option = calloc(1, sizeof(*option));
    char line[128];
    snprintf(line, sizeof(line), "%s --help", name);
    unfade(s, line);
    assert_int_equal(s->code, 0);
    assert_string_equal(s->err, "");
    snprintf(line, sizeof(line), "Usage: unfade %s", name);
    assert_non_null(strstr(s->out, line));
    snprintf(line, sizeof(line), "help %s", name);
    unfade(option, line);
    assert_string_equal(s->out, option->out);

    /* completion offers what help explains */
    snprintf(line, sizeof(line), "--list-options %s", name);
    unfade(option, line);
    assert_int_equal(option->code, 0);
    for (char *save, *o = strtok_r(option->out, "\n", &save); o; o = strtok_r(NULL, "\n", &save))
        if (!strstr(s->out, o)) fail_msg("%s: help does not explain %s", name, o);

    snprintf(line, sizeof(line), "--man %s", name);
    unfade(option, line);
    assert_int_equal(option->code, 0);
    static const char *const parts[] = {"# NAME", "# SYNOPSIS", "# OPTIONS", "*--json*", "# JSON", "*done*", "# ENVIRONMENT", "UNFADE\\_WEIGHTS", "# EXIT STATUS"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        if (!strstr(option->out, parts[i])) fail_msg("%s: the manual lacks %s", name, parts[i]);

    snprintf(line, sizeof(line), "%s --no-such-option", name);
    unfade(s, line);
    assert_int_equal(s->code, 64);
    assert_non_null(strstr(s->err, "--no-such-option"));
    assert_string_equal(s->out, "");
    free(s);
    free(option);
}

static void test_help(void **state) {
    (void)state;
    said *s = calloc(1, sizeof(*s));
    for_commands(check_help);
    unfade(s, "--help");
    assert_int_equal(s->code, 0);
    assert_non_null(strstr(s->out, "colorize"));
    unfade(s, "--version");
    assert_string_equal(s->out, "unfade " UF_VERSION "\n");
    unfade(s, "");
    assert_int_equal(s->code, 64);
    free(s);
}

static void test_usage(void **state) {
    static const struct {
        const char *args, *names; /* what the message must name */
    } rows[] = {
        {"colourise a b", "colorize"},
        {"xyzzyplugh", "xyzzyplugh"},
        {"colorize", "film"},
        {"colorize a b c", "OUT"},
        {"colorize --crf 99 a b", "'99'"},
        {"colorize --crf 1x a b", "'1x'"},
        {"colorize --size 3 a b", "'3'"},
        {"colorize --size nan a b", "'nan'"},
        {"colorize --strength 0 a b", "'0'"},
        {"colorize --memory lots a b", "'lots'"},
        {"colorize --threads 0 a b", "'0'"},
        {"colorize --device cuda a b", "CUDA"},
        {"colorize --device toaster a b", "'toaster'"},
        {"train", "recipe"},
        {"train --resume --overwrite r", "exclude"},
        {"inspect w.safetensors", "pictures"},
        {"lr-find", "recipe"},
        {"lr-find --from 1 --to 0.1 r", "above"},
        {"array", "recipe"},
        {"array --habits clip,singing r", "'singing'"},
        {"array --seconds 10 --offset 5 r", "--offset"},
        {"array --whole r", "--bench"},
        {"eval w.safetensors", "pictures"},
        {"info", "film"},
        {"info a b", "one"},
        {"models x", "no names"},
        {"bench x", "no names"},
    };
    (void)state;
    said *s = calloc(1, sizeof(*s));
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        unfade(s, rows[i].args);
        if (s->code != 64) fail_msg("'%s' ended with %d: %s", rows[i].args, s->code, s->err);
        if (!strstr(s->err, rows[i].names)) fail_msg("'%s' does not name %s: %s", rows[i].args, rows[i].names, s->err);
        assert_string_equal(s->out, "");
    }
    free(s);
}

static void test_bad_files(void **state) {
    (void)state;
    said *s = calloc(1, sizeof(*s));
    write_file("letter.mp4", "Dear Grandma, this is no film.\n");
    write_file("letter.safetensors", "Dear Grandma, these are no weights.\n");
    write_file("there.mp4", "do not touch");
    write_file("odd.yaml", "model: color\nlearning_rat: 3\n");

    unfade(s, "colorize absent.mp4 out.mp4");
    assert_int_equal(s->code, 1);
    check_sentence(s, "'absent.mp4': there is no such file");
    unfade(s, "colorize . out.mp4");
    assert_int_equal(s->code, 1);
    check_sentence(s, "'.': it is a folder");
    unfade(s, "colorize letter.mp4 out.mp4");
    assert_int_equal(s->code, 65);
    check_sentence(s, "letter.mp4");
    unfade(s, "colorize " SOURCE "/samples/pictures/chelsea.jpg there.mp4");
    assert_int_equal(s->code, 1);
    check_sentence(s, "there.mp4'");
    slurp("there.mp4", s->out, sizeof(s->out));
    assert_string_equal(s->out, "do not touch");
    unfade(s, "colorize -q --weights absent.safetensors " SOURCE "/samples/pictures/chelsea.jpg out.png");
    assert_int_equal(s->code, 1);
    check_sentence(s, "'absent.safetensors'");
    unfade(s, "colorize -q --weights letter.safetensors " SOURCE "/samples/pictures/chelsea.jpg out.png");
    assert_int_equal(s->code, 65);
    check_sentence(s, "letter.safetensors");
    unfade(s, "info absent.mp4");
    assert_int_equal(s->code, 1);
    check_sentence(s, "'absent.mp4': there is no such file");
    unfade(s, "info letter.mp4");
    assert_int_equal(s->code, 65);
    unfade(s, "info letter.safetensors");
    assert_int_equal(s->code, 65);
    check_sentence(s, "letter.safetensors");
    unfade(s, "train odd.yaml --out run");
    assert_int_equal(s->code, 64);
    assert_non_null(strstr(s->err, "learning_rat"));
    assert_false(is_there("out.mp4"));
    assert_false(is_there("out.png"));
    free(s);
}

/* Every line of `text` is a JSON object with an "event". Returns the last, new. */
static json_t *parse_lines(char *text) {
    json_t *last = NULL;
    for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_error_t e;
        json_decref(last);
        last = json_loads(line, 0, &e);
        if (!last) fail_msg("not JSON (%s): %s", e.text, line);
        assert_true(json_is_string(json_object_get(last, "event")));
    }
    return last;
}

static const char *text_of(const json_t *v, const char *key) {
    const char *s = json_string_value(json_object_get(v, key));
    return s ? s : "";
}

static void test_json(void **state) {
    (void)state;
    said *s = calloc(1, sizeof(*s));
    unfade(s, "info --json " SOURCE "/samples/pictures/chelsea.jpg");
    assert_int_equal(s->code, 0);
    json_t *v = parse_lines(s->out);
    assert_string_equal(text_of(v, "event"), "media");
    json_t *stream = json_array_get(json_object_get(v, "streams"), 0);
    assert_string_equal(text_of(stream, "kind"), "video");
    assert_true(json_integer_value(json_object_get(stream, "width")) > 0);
    json_decref(v);

    unfade(s, "models --json");
    assert_int_equal(s->code, 0);
    assert_non_null(v = parse_lines(s->out));
    assert_string_equal(text_of(v, "event"), "model");
    assert_true(json_integer_value(json_object_get(v, "values")) > 100000);
    json_decref(v);

    unfade(s, "colorize --json absent.mp4 out.mp4");
    assert_int_equal(s->code, 1);
    assert_non_null(v = parse_lines(s->out));
    assert_string_equal(text_of(v, "event"), "error");
    assert_string_equal(text_of(v, "code"), "io");
    assert_non_null(strstr(text_of(v, "message"), "absent.mp4"));
    json_decref(v);
    free(s);
}

/* The events of a whole job, by the names that the manual page promises. */
static void test_json_of_a_job(void **state) {
    static const char *const wanted[] = {"output", "frames", "seconds", "fps", "warnings"};
    static const char *const progress[] = {"unit", "done", "total", "rate", "seconds", "seconds_left"};
    (void)state;
    if (access(SOURCE "/models/weights/color.safetensors", R_OK)) skip();
    said *s = calloc(1, sizeof(*s));
    unfade(s, "colorize --json --size 64 " SOURCE "/samples/clip/album.mp4 job.png");
    assert_int_equal(s->code, 64); /* more frames than one picture holds */
    json_t *v = parse_lines(s->out);
    assert_string_equal(text_of(v, "event"), "error");
    assert_string_equal(text_of(v, "code"), "invalid");
    json_decref(v);
    unfade(s, "colorize --json --size 64 " SOURCE "/samples/pictures/chelsea.jpg job.png");
    assert_int_equal(s->code, 0);
    char *line = strstr(s->out, "{\"event\":\"progress\"");
    assert_non_null(line);
    assert_non_null(v = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL));
    for (size_t i = 0; i < sizeof(progress) / sizeof(*progress); i++) assert_non_null(json_object_get(v, progress[i]));
    json_decref(v);
    assert_non_null(v = parse_lines(s->out));
    assert_string_equal(text_of(v, "event"), "done");
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) assert_non_null(json_object_get(v, wanted[i]));
    assert_int_equal(json_integer_value(json_object_get(v, "frames")), 1);
    json_decref(v);
    free(s);
}

static void test_weights_info(void **state) {
    (void)state;
    if (access(FEATURES, R_OK)) skip();
    said *s = calloc(1, sizeof(*s));
    unfade(s, "info --json " FEATURES);
    assert_int_equal(s->code, 0);
    json_t *v = parse_lines(s->out);
    assert_string_equal(text_of(v, "event"), "weights");
    assert_string_equal(text_of(json_object_get(v, "metadata"), "model"), "features");
    assert_true(json_array_size(json_object_get(v, "tensors")) > 10);
    json_decref(v);

    /* one flipped byte in the middle */
    FILE *from = fopen(FEATURES, "rb");
    assert_non_null(from);
    fseek(from, 0, SEEK_END);
    size_t n = (size_t)ftell(from);
    char *bytes = malloc(n), path[128];
    rewind(from);
    assert_int_equal(fread(bytes, 1, n, from), n);
    fclose(from);
    bytes[n / 2] ^= 1;
    snprintf(path, sizeof(path), "%s/flipped.safetensors", dir);
    FILE *to = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, n, to), n);
    fclose(to);
    free(bytes);
    unfade(s, "info flipped.safetensors");
    assert_int_equal(s->code, 65);
    check_sentence(s, "flipped.safetensors");
    free(s);
}

/* The file of the network `name` that `PROGRAM models --json` tells, "" when none. */
static void weights_of(const char *program, const char *name, char *to, size_t n) {
    char line[512];
    said *s = calloc(1, sizeof(*s));
    snprintf(line, sizeof(line), "%s models --json", program);
    shell(s, line);
    assert_int_equal(s->code, 0);
    *to = 0;
    for (char *save, *at = strtok_r(s->out, "\n", &save); at; at = strtok_r(NULL, "\n", &save)) {
        json_t *v = json_loads(at, 0, NULL);
        const char *file = text_of(json_object_get(v, "about"), "file");
        if (!strcmp(text_of(v, "name"), name)) snprintf(to, n, "%s", file);
        json_decref(v);
    }
    free(s);
}

/* First the folder that the user names, then the one beside the program, then the one where it was built. */
static void test_weights_search(void **state) {
    (void)state;
    char at[256];
    said *s = calloc(1, sizeof(*s));
    shell(s, "mkdir -p bin share/unfade mine && cp '" UNFADE_PROGRAM "' bin/ && touch share/unfade/color.safetensors "
             "mine/color.safetensors");
    assert_int_equal(s->code, 0);
    weights_of("env -u UNFADE_WEIGHTS bin/unfade", "color", at, sizeof(at));
    assert_non_null(strstr(at, "/share/unfade/color.safetensors"));
    weights_of("env UNFADE_WEIGHTS=mine bin/unfade", "color", at, sizeof(at));
    assert_string_equal(at, "mine/color.safetensors");
    weights_of("env UNFADE_WEIGHTS=none bin/unfade", "color", at, sizeof(at));
    assert_string_equal(at, ""); /* what is not there is not replaced in silence */
    free(s);
}

static int setup(void **state) {
    (void)state;
    strcpy(dir, "/tmp/unfade-cli-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state) {
    char line[128];
    (void)state;
    snprintf(line, sizeof(line), "rm -rf '%s'", dir);
    return system(line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help),  cmocka_unit_test(test_usage),        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_json),  cmocka_unit_test(test_json_of_a_job), cmocka_unit_test(test_weights_info),
        cmocka_unit_test(test_weights_search),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
