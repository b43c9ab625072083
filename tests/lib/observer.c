/* SPDX-License-Identifier: MIT */
/*
 * The accounting oracle: watches a domain from outside, in a process of its
 * own, and holds the kernel's books against what must be true at any time:
 *
 *     pages resident in guest RAM + pages resident in the cache = target
 *
 * or, while somebody changes the target, are at least the smallest and at most
 * the largest of them, at which a domain's total stays at all times.
 *
 * A sample reads the two ranges one after the other, and while it does a page
 * may move from one to the other and be seen twice or not at all. So a sample
 * that does not fit is settled in steps:
 *
 *  1. Read again at once, up to REREADS times. A move takes microseconds: if a
 *     reading fits, the misfit was a page in flight.
 *  2. Otherwise stop the process (SIGSTOP), wait until no thread of it can
 *     run, and read. Nothing is in flight then, so this reading is exact: it
 *     fits, or it is a deviation. Smaps is read too and must agree. Four times a
 *     second a sample is read this way even if it fits. Only when pages are lacking
 *     for each of which the kernel's zero page is mapped, the process is let go for
 *     a moment and read again: see is_broken_up. If it stays so, the kernel has taken
 *     pages of zeros back (src/host/lost.h): that is counted, and a deviation only
 *     if the agent has not brought them back after LOST_LIMIT_NS.
 *
 * Only a reading made while the process was alive counts: one that races with
 * its end, when the kernel tears all memory down, is dropped, and said.
 *
 * Prints one JSON object a line: {"event": "first-sample", ...} once the first
 * sample is taken, so that whoever started us can let the guest go, and
 * {"event": "report", ...} at the end. Exit status 0 if there was at least one
 * sample and no deviation, 1 if not, 2 if it could not observe, 77 if the
 * kernel has no PAGEMAP_SCAN.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/types.h"
#include "ctl/client.h"
#include "ctl/runtime_dir.h"
#include "observer_residency.h"
#include "observer_stop.h"

#define REREADS 8
/* The agent looks every 5 s for what the kernel took back. */
#define LOST_LIMIT_NS      UINT64_C(20000000000)
#define STOP_TIMEOUT_MS    20000 /* only ends what hangs */
#define CONTROL_TIMEOUT_MS 50000
/* After so long one sample is read stopped even if it fits, for smaps. */
#define STOP_PERIOD_NS UINT64_C(250000000)
/* For a process to do what it was about to. */
#define BREATH_NS      UINT64_C(10000000)
#define DEVIATIONS_MAX 20 /* described one by one; all are counted */
#define SKIP           77

#define BLOCKS_MAX 64

/* What is observed. */
struct subject {
    pid_t pid;
    struct range ram[BLOCKS_MAX]; /* guest RAM, in blocks */
    size_t blocks;
    struct range cache;
    uint64_t target_pages;
    uint64_t least_pages;  /* that may be resident: the target, unless others are set meanwhile */
    char socket[PATH_MAX]; /* "" if the ranges came from the command line */
};

/* One reading of both ranges. */
struct reading {
    struct residency ram;
    struct residency cache;
    uint64_t sum;
};

/* How a sample ended; the last is none. */
enum verdict {
    FITS,
    IN_FLIGHT_REREAD,
    IN_FLIGHT_STOPPED,
    DEVIATES,
    PROCESS_ENDED,
};

struct tally {
    uint64_t samples;
    uint64_t verdicts[PROCESS_ENDED];
    uint64_t sum_min; /* of the readings that count */
    uint64_t sum_max;
    uint64_t first_reading_min; /* of each sample's first reading, settled or not */
    uint64_t first_reading_max;
    uint64_t zero_pages_max;
    uint64_t other_anon_min; /* RssAnon less the two ranges: QEMU's own */
    uint64_t other_anon_max;
    uint64_t smaps_checks;
    uint64_t smaps_disagreements;
    uint64_t broken_up;     /* stops just when the kernel had broken a huge page up */
    uint64_t lost_since_ns; /* not 0: since when pages are lost to the kernel */
    uint64_t lost;          /* samples then */
    uint64_t next_stop_ns;
    uint64_t gap_max_ns;
    uint64_t read_max_ns;
    uint64_t read_sum_ns;
    json_t *deviations;
};

/* Is that many what must be resident? */
static bool fits(const struct subject *subject, uint64_t pages)
{
    return subject->least_pages <= pages && pages <= subject->target_pages;
}

static volatile sig_atomic_t ended_by_signal;

static void on_signal(int number)
{
    (void)number;
    ended_by_signal = 1;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_until(uint64_t deadline_ns)
{
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                .tv_nsec = (long)(deadline_ns % 1000000000u)};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL);
}

static int read_both(struct residency_reader *reader, const struct subject *subject,
                     struct reading *reading)
{
    struct reading both = {0};
    int r = 0;

    for (size_t i = 0; i < subject->blocks && r == 0; i++) {
        struct residency block;

        r = residency_scan(reader, subject->ram[i], &block);
        if (r == 0) {
            both.ram.pages += block.pages;
            both.ram.huge_pages += block.huge_pages;
            both.ram.zero_pages += block.zero_pages;
        }
    }
    if (r == 0) {
        r = residency_scan(reader, subject->cache, &both.cache);
    }
    if (r == 0) {
        both.sum = both.ram.pages + both.cache.pages;
        *reading = both;
    }
    return r;
}

/* Is the process alive, with its memory, and not being taken down by its own
 * agent? Asks the agent too if there is one: while a domain is dying its
 * equations do not hold and need not. */
static bool subject_runs(const struct subject *subject)
{
    struct ctl_client *client;
    struct ctl_error error;
    const char *state = "running";
    json_t *reply = NULL;
    uint64_t pages;
    bool runs;

    if (residency_rss_anon(subject->pid, &pages) < 0) {
        return false;
    }
    if (subject->socket[0] == '\0') {
        return true;
    }
    if (ctl_client_connect(subject->socket, CONTROL_TIMEOUT_MS, &client) < 0) {
        return residency_rss_anon(subject->pid, &pages) == 0;
    }
    if (ctl_client_call(client, "query-domain", NULL, CONTROL_TIMEOUT_MS, &reply, &error) == 0) {
        state = json_string_value(json_object_get(reply, "state"));
    }
    runs = state != NULL && strcmp(state, "dying") != 0 && strcmp(state, "exhausted") != 0;
    json_decref(reply);
    ctl_client_close(client);
    return runs && residency_rss_anon(subject->pid, &pages) == 0;
}

static void describe_deviation(struct tally *tally, const struct subject *subject,
                               const struct reading *reading, uint64_t t_ns, const char *how)
{
    if (json_array_size(tally->deviations) < DEVIATIONS_MAX) {
        json_array_append_new(tally->deviations,
                              json_pack("{s:I, s:I, s:I, s:I, s:I, s:s}", "t_ns", (json_int_t)t_ns,
                                        "ram_pages", (json_int_t)reading->ram.pages, "cache_pages",
                                        (json_int_t)reading->cache.pages, "sum_pages",
                                        (json_int_t)reading->sum, "target_pages",
                                        (json_int_t)subject->target_pages, "how", how));
    }
}

/* Counts with smaps, which must agree with the scan: the process is stopped. */
static void check_smaps(struct tally *tally, const struct subject *subject,
                        const struct reading *reading, uint64_t t_ns)
{
    uint64_t ram = 0;
    uint64_t block;
    uint64_t cache;

    for (size_t i = 0; i < subject->blocks; i++) {
        if (residency_smaps(subject->pid, subject->ram[i], &block) < 0) {
            return;
        }
        ram += block;
    }
    if (residency_smaps(subject->pid, subject->cache, &cache) < 0) {
        return;
    }
    tally->smaps_checks++;
    if (ram != reading->ram.pages || cache != reading->cache.pages) {
        tally->smaps_disagreements++;
        describe_deviation(tally, subject, reading, t_ns, "smaps counts differently");
    }
}

/* One reading while nothing can move. -ESRCH if the process has ended, -ETIMEDOUT if a thread would
 * not stop. */
static int read_while_stopped(struct residency_reader *reader, const struct subject *subject,
                              struct tally *tally, uint64_t t_ns, struct reading *reading)
{
    int r = process_stop(subject->pid, STOP_TIMEOUT_MS);

    if (r == 0) {
        r = read_both(reader, subject, reading) < 0 ? -ESRCH : 0;
    }
    if (r == 0) {
        check_smaps(tally, subject, reading, t_ns);
    }
    process_continue(subject->pid);
    return r;
}

/*
 * Has the kernel just broken a huge page up, and given the host those of its pages that hold zeros?
 * It maps its zero page in their places, where they can be counted, and the agent has them back in
 * the same breath. The process can be stopped in between.
 */
static bool is_broken_up(const struct subject *subject, const struct reading *reading)
{
    uint64_t zero_pages = reading->ram.zero_pages + reading->cache.zero_pages;

    return zero_pages != 0 && fits(subject, reading->sum + zero_pages);
}

/* Reads while nothing can move, and gives the verdict if the reading does not
 * fit; `otherwise` is the verdict if it does. */
static enum verdict read_stopped(struct residency_reader *reader, const struct subject *subject,
                                 struct tally *tally, uint64_t t_ns, struct reading *reading,
                                 enum verdict otherwise)
{
    int r = read_while_stopped(reader, subject, tally, t_ns, reading);

    for (int i = 0; i < REREADS && r == 0 && is_broken_up(subject, reading); i++) {
        tally->broken_up++;
        sleep_until(now_ns() + BREATH_NS);
        r = read_while_stopped(reader, subject, tally, t_ns, reading);
    }
    if (r == -ESRCH) {
        return PROCESS_ENDED;
    }
    if (r == 0 && fits(subject, reading->sum)) {
        tally->lost_since_ns = 0;
        return otherwise;
    }
    if (r == 0 && is_broken_up(subject, reading)) {
        if (tally->lost_since_ns == 0) {
            tally->lost_since_ns = t_ns;
        }
        tally->lost++;
        if (t_ns - tally->lost_since_ns < LOST_LIMIT_NS) {
            return otherwise;
        }
    }
    if (!subject_runs(subject)) {
        return PROCESS_ENDED;
    }
    describe_deviation(tally, subject, reading, t_ns,
                       r == 0 ? "stopped" : "a thread would not stop");
    return DEVIATES;
}

static void count_first_reading(struct tally *tally, const struct reading *reading, uint64_t ns)
{
    tally->read_sum_ns += ns;
    tally->read_max_ns = max_u64(tally->read_max_ns, ns);
    tally->first_reading_min = min_u64(tally->first_reading_min, reading->sum);
    tally->first_reading_max = max_u64(tally->first_reading_max, reading->sum);
}

/* A page count or address that must be in the reply. */
static bool take_number(const json_t *reply, const char *key, uint64_t *value)
{
    const json_t *number = json_object_get(reply, key);

    if (!json_is_integer(number) || json_integer_value(number) < 0) {
        fprintf(stderr, "observer: the domain's answer has no number '%s'\n", key);
        return false;
    }
    *value = (uint64_t)json_integer_value(number);
    return true;
}

static bool take_blocks(const json_t *reply, struct subject *subject)
{
    const json_t *blocks = json_object_get(reply, "ram_blocks");
    bool good = json_is_array(blocks) && json_array_size(blocks) <= BLOCKS_MAX;

    subject->blocks = good ? json_array_size(blocks) : 0;
    for (size_t i = 0; i < subject->blocks && good; i++) {
        const json_t *block = json_array_get(blocks, i);

        good = take_number(block, "start", &subject->ram[i].start) &&
               take_number(block, "bytes", &subject->ram[i].bytes);
    }
    return good;
}

/* DIMMs may have come and gone. */
static void look_for_blocks(struct subject *subject)
{
    struct subject now = *subject;
    struct ctl_client *client;
    struct ctl_error error;
    json_t *reply;

    if (subject->socket[0] == '\0' ||
        ctl_client_connect(subject->socket, CONTROL_TIMEOUT_MS, &client) < 0) {
        return;
    }
    if (ctl_client_call(client, "query-domain", NULL, CONTROL_TIMEOUT_MS, &reply, &error) == 0) {
        if (take_blocks(reply, &now)) {
            *subject = now;
        }
        json_decref(reply);
    }
    ctl_client_close(client);
}

static enum verdict take_sample(struct residency_reader *reader, struct subject *subject,
                                struct tally *tally, uint64_t t_ns, struct reading *reading)
{
    uint64_t before = now_ns();
    uint64_t after;
    uint64_t rss;

    if (read_both(reader, subject, reading) < 0) {
        return PROCESS_ENDED;
    }
    after = now_ns();
    /* A process that ends is taken apart while we look. */
    if (residency_rss_anon(subject->pid, &rss) < 0) {
        return PROCESS_ENDED;
    }
    count_first_reading(tally, reading, after - before);
    if (fits(subject, reading->sum)) {
        if (tally->next_stop_ns <= t_ns) {
            tally->next_stop_ns = t_ns + STOP_PERIOD_NS;
            return read_stopped(reader, subject, tally, t_ns, reading, FITS);
        }
        return FITS;
    }
    for (int i = 0; i < REREADS; i++) {
        if (read_both(reader, subject, reading) < 0) {
            return PROCESS_ENDED;
        }
        if (fits(subject, reading->sum)) {
            return IN_FLIGHT_REREAD;
        }
    }
    look_for_blocks(subject);
    return read_stopped(reader, subject, tally, t_ns, reading, IN_FLIGHT_STOPPED);
}

static void count_sample(struct tally *tally, const struct subject *subject,
                         const struct reading *reading)
{
    uint64_t zero_pages = reading->ram.zero_pages + reading->cache.zero_pages;
    uint64_t rss;

    tally->samples++;
    tally->sum_min = min_u64(tally->sum_min, reading->sum);
    tally->sum_max = max_u64(tally->sum_max, reading->sum);
    tally->zero_pages_max = max_u64(tally->zero_pages_max, zero_pages);
    if (residency_rss_anon(subject->pid, &rss) == 0 && rss >= reading->sum) {
        tally->other_anon_min = min_u64(tally->other_anon_min, rss - reading->sum);
        tally->other_anon_max = max_u64(tally->other_anon_max, rss - reading->sum);
    }
}

static void print_line(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(object);
}

/* Samples until the process ends or we are told to; then once more, so that what was so when we
 * were told is seen. */
static void observe(struct residency_reader *reader, struct subject *subject, unsigned hz,
                    struct tally *tally)
{
    uint64_t period = hz == 0 ? 0 : 1000000000u / hz;
    uint64_t start = now_ns();
    uint64_t next = start;
    uint64_t last = start;
    bool told;

    do {
        uint64_t now = now_ns();
        struct reading reading;
        enum verdict verdict;

        told = ended_by_signal != 0;
        tally->gap_max_ns = max_u64(tally->gap_max_ns, now - last);
        last = now;
        verdict = take_sample(reader, subject, tally, now - start, &reading);
        if (verdict == PROCESS_ENDED) {
            break;
        }
        tally->verdicts[verdict]++;
        count_sample(tally, subject, &reading);
        if (tally->samples == 1) {
            print_line(json_pack("{s:s, s:I, s:I, s:I}", "event", "first-sample", "sum_pages",
                                 (json_int_t)reading.sum, "ram_pages",
                                 (json_int_t)reading.ram.pages, "huge_pages",
                                 (json_int_t)(reading.ram.huge_pages + reading.cache.huge_pages)));
        }
        /* As fast as it can is half of one processor's time, not to be in the way. */
        next = hz == 0 ? now_ns() + (now_ns() - now) : next + period;
        if (next < now_ns()) {
            next = now_ns();
        }
        if (!ended_by_signal) {
            sleep_until(next);
        }
    } while (!told);
}

static int report(const struct subject *subject, unsigned hz, const struct tally *tally)
{
    uint64_t deviations = tally->verdicts[DEVIATES];
    bool good = tally->samples > 0 && deviations == 0 && tally->smaps_disagreements == 0;

    print_line(json_pack(
        "{s:s, s:b, s:I, s:I, s:I, s:i, s:I, s:I, s:I, s:I, s:I, s:O, s:I, s:I, s:I, s:I, s:I, "
        "s:I, "
        "s:I, "
        "s:I, s:I, s:I, s:I, s:I, s:b}",
        "event", "report", "good", good, "target_pages", (json_int_t)subject->target_pages,
        "broken_up", (json_int_t)tally->broken_up, "lost", (json_int_t)tally->lost, "hz", (int)hz,
        "samples", (json_int_t)tally->samples, "exact", (json_int_t)tally->verdicts[FITS],
        "in_flight_reread", (json_int_t)tally->verdicts[IN_FLIGHT_REREAD], "in_flight_stopped",
        (json_int_t)tally->verdicts[IN_FLIGHT_STOPPED], "deviations", (json_int_t)deviations,
        "details", tally->deviations, "sum_min_pages", (json_int_t)tally->sum_min, "sum_max_pages",
        (json_int_t)tally->sum_max, "first_reading_min_pages", (json_int_t)tally->first_reading_min,
        "first_reading_max_pages", (json_int_t)tally->first_reading_max, "zero_pages_max",
        (json_int_t)tally->zero_pages_max, "other_anon_min_pages",
        (json_int_t)tally->other_anon_min, "other_anon_max_pages",
        (json_int_t)tally->other_anon_max, "smaps_checks", (json_int_t)tally->smaps_checks,
        "smaps_disagreements", (json_int_t)tally->smaps_disagreements, "gap_max_ns",
        (json_int_t)tally->gap_max_ns, "read_max_ns", (json_int_t)tally->read_max_ns,
        "read_mean_ns", (json_int_t)(tally->samples > 0 ? tally->read_sum_ns / tally->samples : 0),
        "ended_by_signal", ended_by_signal != 0));
    return good ? 0 : 1;
}

static int ask_domain(const char *name, struct subject *subject)
{
    struct ctl_client *client;
    struct ctl_error error;
    char base[PATH_MAX];
    json_t *reply;
    uint64_t pid;
    bool good;
    int r = runtime_base(base, sizeof(base));

    if (r == 0) {
        r = runtime_socket_path(base, name, subject->socket, sizeof(subject->socket));
    }
    if (r == 0) {
        r = ctl_client_connect(subject->socket, CONTROL_TIMEOUT_MS, &client);
    }
    if (r < 0) {
        fprintf(stderr, "observer: no connection to domain '%s': %s\n", name, strerror(-r));
        return r;
    }
    r = ctl_client_call(client, "query-domain", NULL, CONTROL_TIMEOUT_MS, &reply, &error);
    ctl_client_close(client);
    if (r < 0) {
        fprintf(stderr, "observer: domain '%s' does not answer query-domain: %s\n", name,
                r == -EREMOTEIO ? error.desc : strerror(-r));
        return r;
    }
    good = take_number(reply, "pid", &pid) && take_blocks(reply, subject) &&
           take_number(reply, "cache_start", &subject->cache.start) &&
           take_number(reply, "cache_bytes", &subject->cache.bytes) &&
           take_number(reply, "target_pages", &subject->target_pages);
    json_decref(reply);
    subject->pid = (pid_t)pid;
    return good ? 0 : -EPROTO;
}

static bool parse_range(const char *text, struct range *range)
{
    return sscanf(text, "%" SCNx64 "+%" SCNx64, &range->start, &range->bytes) == 2;
}

static const char usage[] =
    "usage: observer [--hz N] [--between LEAST+MOST] NAME\n"
    "       observer [--hz N] --pid PID --ram START+BYTES --cache START+BYTES --target PAGES\n"
    "\n"
    "Samples the memory of domain NAME (or of the ranges of a process, in hexadecimal) N times\n"
    "a second (default 100; 0: half of the time) until it ends, and reports whether the sum was\n"
    "always the target. --between: while its target changes, the least and the most that it is\n"
    "set to, in pages, in decimal.\n";

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"hz", required_argument, NULL, 'z'},     {"pid", required_argument, NULL, 'p'},
        {"ram", required_argument, NULL, 'r'},    {"cache", required_argument, NULL, 'c'},
        {"target", required_argument, NULL, 't'}, {"between", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    struct subject subject = {0};
    struct residency_reader reader;
    struct residency probe;
    struct tally tally = {
        .sum_min = UINT64_MAX, .first_reading_min = UINT64_MAX, .other_anon_min = UINT64_MAX};
    struct sigaction action = {.sa_handler = on_signal};
    unsigned hz = 100;
    uint64_t least_pages = 0, most_pages = 0;
    bool good = true;
    int option;
    int r;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'z':
            hz = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'p':
            subject.pid = (pid_t)strtol(optarg, NULL, 10);
            break;
        case 'r':
            good = good && parse_range(optarg, &subject.ram[0]);
            subject.blocks = 1;
            break;
        case 'c':
            good = good && parse_range(optarg, &subject.cache);
            break;
        case 't':
            subject.target_pages = strtoull(optarg, NULL, 10);
            break;
        case 'b':
            good = good && sscanf(optarg, "%" SCNu64 "+%" SCNu64, &least_pages, &most_pages) == 2;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (!good || hz > 10000 || (subject.pid == 0) != (optind == argc - 1)) {
        fputs(usage, stderr);
        return 2;
    }
    if (subject.pid == 0 && ask_domain(argv[optind], &subject) < 0) {
        return 2;
    }
    subject.target_pages = most_pages != 0 ? most_pages : subject.target_pages;
    subject.least_pages = most_pages != 0 ? least_pages : subject.target_pages;
    r = residency_open(subject.pid, &reader);
    if (r == 0) {
        r = residency_scan(&reader, subject.cache, &probe);
        if (r == -ENOTTY) {
            fprintf(stderr, "observer: this kernel has no PAGEMAP_SCAN (Linux 6.7 has)\n");
            return SKIP;
        }
    }
    if (r < 0) {
        fprintf(stderr, "observer: cannot look at process %d: %s\n", (int)subject.pid,
                strerror(-r));
        return 2;
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    tally.deviations = json_array();
    observe(&reader, &subject, hz, &tally);
    r = report(&subject, hz, &tally);
    json_decref(tally.deviations);
    residency_close(&reader);
    return r;
}
