/* A folder for a test program: group fixtures that make and remove it. */
#ifndef UF_TEST_FOLDER_H
#define UF_TEST_FOLDER_H

#include <stdio.h>
#include <stdlib.h>

static char folder[] = "/tmp/unfade-test-XXXXXX";

static int setup(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state) {
    char cmd[128];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -r '%s'", folder);
    return system(cmd);
}

#endif
