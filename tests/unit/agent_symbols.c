/* SPDX-License-Identifier: MIT */
/* The symbols of this very program, from a debug file that objcopy makes of it. */
#include "agent/symbols.h"

#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int found_by_name(void);
int found_by_name(void)
{
    return 42;
}

extern int a_variable;
int a_variable = 7;

static char folder[] = "/tmp/bl-symbols-XXXXXX";
static char file[512];

/* The path of our debug file: readelf says the build id. */
static int make_file(void)
{
    char command[2048];
    FILE *output;

    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(command, sizeof(command),
             "set -e; exe=$(readlink /proc/%ld/exe); id=$(readelf -n \"$exe\" 2>/dev/null |"
             " sed -n 's/.*Build ID: //p'); [ -n \"$id\" ]; rest=${id#??};"
             " file=%s/.build-id/${id%%\"$rest\"}/$rest.debug; mkdir -p \"${file%%/*}\";"
             " objcopy --only-keep-debug \"$exe\" \"$file\"; echo \"$file\"",
             (long)getpid(), folder);
    output = popen(command, "r");
    if (output == NULL) {
        return -1;
    }
    size_t length = fread(file, 1, sizeof(file) - 1, output);
    file[length > 0 ? length - 1 : 0] = '\0';
    return pclose(output) == 0 && length > 1 ? 0 : -1;
}

static void require_file(void)
{
    if (file[0] == '\0') {
        print_message("objcopy and readelf cannot make a debug file here\n");
        skip();
    }
}

static void finds_functions(void **unused)
{
    (void)unused;
    struct symbols symbols = {.file = NULL};

    require_file();
    assert_int_equal(symbols_open(folder, &symbols), 0);
    void *function = symbols_find(&symbols, "found_by_name");
    assert_ptr_equal(function, (void *)found_by_name);
    assert_ptr_equal(symbols_find(&symbols, "a_variable"), &a_variable);
    assert_null(symbols_find(&symbols, "found_by_nam"));
    assert_null(symbols_find(&symbols, "found_by_name_"));
    assert_null(symbols_find(&symbols, ""));
    /* Not ours, and of another library. */
    assert_null(symbols_find(&symbols, "malloc"));
    /* Only global ones: a static one's name may be there more than once. */
    assert_null(symbols_find(&symbols, "finds_functions"));
    symbols_close(&symbols);
    assert_null(symbols_find(&symbols, "found_by_name"));
}

static void no_file(void **unused)
{
    (void)unused;
    struct symbols symbols = {.file_bytes = 7};

    assert_int_equal(symbols_open("/nonexistent", &symbols), -ENOENT);
    assert_int_equal(symbols.file_bytes, 7);
}

/* Cut off anywhere, or with any byte of its header changed, it is refused or read
 * within its bounds. */
static void damaged(void **unused)
{
    (void)unused;
    struct symbols symbols;
    static unsigned char whole[1 << 20], header[64];

    require_file();
    FILE *stream = fopen(file, "r+b");
    assert_non_null(stream);
    size_t bytes = fread(whole, 1, sizeof(whole), stream);
    assert_true(bytes > sizeof(header) && bytes < sizeof(whole));
    memcpy(header, whole, sizeof(header));
    for (size_t i = 0; i < sizeof(header); i++) {
        for (int value = 0; value < 256; value += 51) {
            fseek(stream, (long)i, SEEK_SET);
            fputc(value, stream);
            fflush(stream);
            if (symbols_open(folder, &symbols) == 0) {
                symbols_find(&symbols, "no such function");
                symbols_close(&symbols);
            }
        }
        fseek(stream, (long)i, SEEK_SET);
        fputc(header[i], stream);
        fflush(stream);
    }
    fclose(stream);
    for (size_t left = bytes; left > 0; left -= left > 997 ? 997 : left) {
        assert_int_equal(truncate(file, (off_t)(left - 1)), 0);
        if (symbols_open(folder, &symbols) == 0) {
            symbols_find(&symbols, "no such function");
            symbols_close(&symbols);
        }
    }
    assert_int_not_equal(symbols_open(folder, &symbols), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_functions),
        cmocka_unit_test(no_file),
        cmocka_unit_test(damaged),
    };
    char command[64];

    if (make_file() < 0) {
        file[0] = '\0';
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command) == 0 ? failed : 1;
}
