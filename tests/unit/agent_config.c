/* SPDX-License-Identifier: MIT */
/* The launcher's configuration: what must be there, and all that is refused. */
#include "agent/config.h"

#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE                                                                                      \
    "{\"name\": \"vm1\", \"directory\": \"/run/ballast/vm1\", \"lock_fd\": 3, "                    \
    "\"target_bytes\": 268435456, \"max_bytes\": 1073741824"

static void whole(void **unused)
{
    (void)unused;
    struct config config;
    const char *why = NULL;
    assert_int_equal(config_parse(WHOLE "}", &config, &why), 0);
    assert_null(why);
    assert_string_equal(config.name, "vm1");
    assert_string_equal(config.directory, "/run/ballast/vm1");
    assert_string_equal(config.program, "");
    assert_string_equal(config.preload, "");
    assert_int_equal(config.lock_fd, 3);
    assert_int_equal(config.target_bytes, UINT64_C(256) << 20);
    assert_int_equal(config.max_bytes, UINT64_C(1) << 30);

    assert_int_equal(config_parse(WHOLE ", \"program\": \"/usr/bin/qemu\", \"preload\": \"a.so\", "
                                        "\"of a later version\": [1]}",
                                  &config, &why),
                     0);
    assert_string_equal(config.program, "/usr/bin/qemu");
    assert_string_equal(config.preload, "a.so");
    assert_string_equal(config.target_word, "");
    assert_false(config.balloon_sets_target);

    assert_int_equal(config_parse(WHOLE ", \"target_word\": \"<currentMemory>\", "
                                        "\"balloon_sets_target\": true}",
                                  &config, &why),
                     0);
    assert_string_equal(config.target_word, "<currentMemory>");
    assert_true(config.balloon_sets_target);
}

/* Refused with a reason, and the output is not touched. */
static void refused(const char *text, const char *reason)
{
    struct config config, before;
    const char *why = NULL;
    memset(&config, 0x5a, sizeof(config));
    before = config;
    int err = config_parse(text, &config, &why);
    if (err != -EINVAL || why == NULL || strstr(why, reason) == NULL) {
        fail_msg("%s: %d, %s instead of %s", text, err, why != NULL ? why : "no reason", reason);
    }
    assert_memory_equal(&config, &before, sizeof(config));
}

static void not_an_object(void **unused)
{
    (void)unused;
    static const char *const texts[] = {"",      " ",    "{",   "[]",       "1",
                                        "\"x\"", "null", WHOLE, WHOLE "} x"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        refused(texts[i], "no JSON object");
    }
    refused(WHOLE ", \"name\": \"vm2\"}", "no JSON object"); /* which of the two? */
}

static void each_member(void **unused)
{
    (void)unused;
    static const struct {
        const char *key, *good;
        const char *bad[8];
        const char *reason;
    } members[] = {
        {"name", "\"vm1\"", {"\"\"", "1", "null", "[]"}, "name"},
        {"directory", "\"/d\"", {"\"\"", "\"d\"", "\"./d\"", "1"}, "directory"},
        {"lock_fd", "3", {"-1", "2147483648", "3.0", "\"3\"", "null"}, "lock_fd"},
        {"target_bytes",
         "2097152",
         {"0", "-4096", "4096", "2093056", "2097153", "2.5e6", "\"2M\"", "null"},
         "target_bytes"},
        {"max_bytes", "0", {"-1", "1.5", "\"1G\"", "null"}, "max_bytes"},
        {"target_word", "\"t\"", {"1", "null"}, "target_word"},
        {"balloon_sets_target", "true", {"1", "\"true\"", "null"}, "balloon_sets_target"},
        {"program", "\"/q\"", {"1", "{}", "null"}, "program"},
        {"preload", "\"\"", {"1", "[]", "null"}, "preload"},
    };
    const size_t count = sizeof(members) / sizeof(members[0]);
    /* With member `changed` left out (value -1), good (0), or bad (1 and up). */
    for (size_t changed = 0; changed < count; changed++) {
        for (int value = -1; value <= 8; value++) {
            char text[1024] = "{\"zzz\": 0";
            if (value > 0 && members[changed].bad[value - 1] == NULL) {
                break;
            }
            for (size_t i = 0; i < count; i++) {
                size_t length = strlen(text);
                if (i == changed && value < 0) {
                    continue;
                }
                snprintf(text + length, sizeof(text) - length, ", \"%s\": %s", members[i].key,
                         i == changed && value > 0 ? members[i].bad[value - 1] : members[i].good);
            }
            strcat(text, "}");
            bool optional = changed >= 5;
            if (value == 0 || (value < 0 && optional)) {
                struct config config;
                const char *why = "";
                if (config_parse(text, &config, &why) != 0) {
                    fail_msg("%s: %s", text, why);
                }
            } else {
                refused(text, members[changed].reason);
            }
        }
    }
}

/* Strings that just fit, and that just do not. */
static void lengths(void **unused)
{
    (void)unused;
    static const struct {
        const char *key;
        size_t most;
    } strings[] = {
        {"name", BALLAST_NAME_MAX_BYTES},
        {"directory", PATH_MAX - 1},
        {"program", PATH_MAX - 1},
        {"preload", PATH_MAX - 1},
    };
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        for (size_t length = strings[i].most; length <= strings[i].most + 1; length++) {
            char value[PATH_MAX + 2], text[PATH_MAX + 512];
            memset(value, '/', length);
            value[length] = '\0';
            snprintf(text, sizeof(text),
                     "{%s%s\"target_bytes\": 2097152, \"max_bytes\": 0, "
                     "\"lock_fd\": 0, \"%s\": \"%s\"}",
                     i == 0 ? "" : "\"name\": \"n\", ", i == 1 ? "" : "\"directory\": \"/\", ",
                     strings[i].key, value);
            if (length > strings[i].most) {
                refused(text, strings[i].key);
                continue;
            }
            struct config config;
            const char *why = "";
            if (config_parse(text, &config, &why) != 0) {
                fail_msg("%s of %zu bytes: %s", strings[i].key, length, why);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(not_an_object),
        cmocka_unit_test(each_member),
        cmocka_unit_test(lengths),
    };
    return cmocka_run_group_tests_name("agent_config", tests, NULL, NULL);
}
