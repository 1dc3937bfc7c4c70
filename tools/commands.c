/* The index of all commands. */
#include "app.h"

#define COMMANDS(X) X(colorize) X(clean) X(merge) X(score) X(preview) X(report) X(scenes) X(suggest) X(tune) X(train) X(mix) X(array) X(lr_find) X(average) X(eval) X(inspect) X(info) X(bench) X(models)

#define DECLARE(name) extern const uf_command uf_command_##name;
COMMANDS(DECLARE)
#define ADDRESS(name) &uf_command_##name,
const uf_command *const uf_commands[] = {COMMANDS(ADDRESS) NULL};
