/* SPDX-License-Identifier: MIT */
/* ballast's own command line: options before and after the words, sizes, seconds
 * and names. One word a line. What is refused is refused with an exit status and
 * a line that says why; what is accepted is in the range that it was checked for. */
#include "fuzz.h"

#include "base/types.h"
#include "cli.h"
#include "ctl/runtime_dir.h"

#include <ballast/protocol.h>
#include <string.h>

#define WORDS_MAX     64
#define MAX_TIMEOUT_S 1000000

/* cli.c prints what is wrong: here, so that it is looked at. */
static char said[1 << 16];
static FILE *real_stderr, *real_stdout;

static void begin_listening(void)
{
    static FILE *ear;
    if (ear == NULL) {
        ear = fmemopen(said, sizeof(said) - 1, "w");
        must(ear != NULL);
        setvbuf(ear, NULL, _IONBF, 0);
        real_stderr = stderr;
        real_stdout = stdout;
    }
    rewind(ear);
    memset(said, 0, strlen(said));
    stderr = ear;
    stdout = ear;
}

static void end_listening(void)
{
    stderr = real_stderr;
    stdout = real_stdout;
}

static void check_status(int ret)
{
    must(ret == 0 || ret == BALLAST_EXIT_USAGE);
    must((ret != 0) == (said[0] != '\0'));
    must(ret == 0 || strncmp(said, "ballast: ", 9) == 0);
}

static void read_values(const char *target, const char *seconds, const char *name)
{
    uint64_t bytes = 0;
    int ms = -1;
    begin_listening();
    int ret = target != NULL ? cli_read_target("set", "SIZE", target, &bytes) : 0;
    end_listening();
    check_status(ret);
    must(target == NULL || ret != 0 || (bytes >= SUPERPAGE_BYTES && bytes % PAGE_BYTES == 0));

    begin_listening();
    ret = seconds != NULL ? cli_read_seconds("set", "--timeout", seconds, MAX_TIMEOUT_S, &ms) : 0;
    end_listening();
    check_status(ret);
    must(seconds == NULL || ret != 0 || (ms >= 0 && ms <= MAX_TIMEOUT_S * 1000));

    begin_listening();
    ret = name != NULL ? cli_check_name("set", name) : 0;
    end_listening();
    check_status(ret);
    must(name == NULL || ret != 0 || (strlen(name) <= BALLAST_NAME_MAX_BYTES && name[0] != '.'));
    must(name == NULL || ret != 0 || strpbrk(name, "/ \n") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct cli_command command = {"set", "summary", "help\n", NULL};
    char *text = malloc(size + 1);
    char *argv[WORDS_MAX + 1];
    static char program[] = "set";
    int argc = 0;
    must(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    argv[argc++] = program;
    for (char *rest = text, *word; argc < WORDS_MAX && (word = strsep(&rest, "\n")) != NULL;) {
        argv[argc++] = word;
    }
    argv[argc] = NULL;

    const char *seconds = NULL, *target = NULL, *name = NULL;
    bool wait = false, json = false;
    const struct cli_option options[] = {
        {"--timeout", &seconds, NULL}, {"--target", &target, NULL}, {"--wait", NULL, &wait},
        {"--json", NULL, &json},       {NULL, NULL, NULL},
    };
    int rest = -1;
    begin_listening();
    int ret = cli_read_options(&command, options, argc, argv, &rest);
    end_listening();
    if (ret < 0) {
        must(strcmp(said, command.help) == 0);
    } else {
        check_status(ret);
        must(ret != 0 || (rest >= 1 && rest <= argc));
        must(ret != 0 || rest == argc || argv[rest][0] != '-' || argv[rest][1] == '\0' ||
             strcmp(argv[rest - 1], "--") == 0);
    }

    begin_listening();
    ret = cli_read_options_and_word(&command, options, argc, argv, "name", &name);
    end_listening();
    if (ret >= 0) {
        check_status(ret);
        must(ret != 0 || name != NULL);
    }
    read_values(target, seconds, name);
    free(text);
    return 0;
}
