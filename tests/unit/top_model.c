/* SPDX-License-Identifier: MIT */
/* What ballast top makes of answers: rates, history, order, filter; and short numbers. */
#include "unit.h"

#include "top_format.h"
#include "top_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What a domain answers. */
static json_t *answer(const char *name, int pid, int populated, int faults, int reclaims)
{
    return json_pack("{s:s, s:i, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:b}",
                     "name", name, "pid", pid, "state", "running", "max_pages", 1000,
                     "target_pages", 500, "populated_pages", populated, "cache_pages",
                     500 - populated, "pod_entries_pages", 1000 - populated, "faults", faults,
                     "reclaimed_2m", reclaims, "reclaimed_4k", 2 * reclaims, "fault_p99_ns", faults,
                     "covered", 0, "shrinking", 0);
}

static json_t *silence(const char *name)
{
    return json_pack("{s:s, s:s}", "name", name, "error", "it did not answer; try again");
}

/* A survey of these, which are used up. */
static void survey(struct top_model *model, double asked_s, json_t *one, json_t *two, json_t *three)
{
    json_t *list = json_array();
    json_t *answers[] = {one, two, three};
    for (size_t i = 0; i < 3; i++) {
        if (answers[i] != NULL) {
            json_array_append_new(list, answers[i]);
        }
    }
    assert_int_equal(top_model_take_survey(model, list, asked_s), 0);
    json_decref(list);
}

/* The names of those that are shown, each with a blank. */
static const char *shown(const struct top_model *model)
{
    static char text[256];
    text[0] = '\0';
    for (size_t i = 0; i < model->shown_count; i++) {
        strcat(strcat(text, model->domains[model->shown[i]].name), " ");
    }
    return text;
}

static void rates(void **unused)
{
    (void)unused;
    struct top_model model = {.count = 0};
    survey(&model, 10, answer("a", 1, 100, 50, 10), NULL, NULL);
    const struct top_domain *a = top_model_find(&model, "a");
    assert_non_null(a);
    assert_true(a->is_known && isnan(a->faults_per_s) && isnan(a->reclaims_per_s));
    survey(&model, 12, answer("a", 1, 100, 250, 11), NULL, NULL);
    assert_true(a->faults_per_s == 100 && a->reclaims_per_s == 1.5);
    /* Nothing happened, and then no time went by. */
    survey(&model, 13, answer("a", 1, 100, 250, 11), NULL, NULL);
    assert_true(a->faults_per_s == 0);
    survey(&model, 13, answer("a", 1, 100, 260, 11), NULL, NULL);
    assert_true(isnan(a->faults_per_s));
    /* Another process of that name. */
    survey(&model, 14, answer("a", 2, 100, 900, 30), NULL, NULL);
    assert_true(isnan(a->faults_per_s));
    assert_int_equal(a->history_count, 1);
    survey(&model, 15, answer("a", 2, 100, 901, 30), NULL, NULL);
    assert_true(a->faults_per_s == 1);
    /* Counters that go back are another process, too. */
    survey(&model, 16, answer("a", 2, 100, 5, 30), NULL, NULL);
    assert_true(isnan(a->faults_per_s));
    top_model_free(&model);
}

static void silence_and_end(void **unused)
{
    (void)unused;
    struct top_model model = {.count = 0};
    survey(&model, 1, answer("a", 1, 100, 0, 0), silence("b"), answer("c", 3, 1, 0, 0));
    const struct top_domain *b = top_model_find(&model, "b");
    assert_true(b->is_silent && !b->is_known);
    assert_string_equal(top_state(b), "silent");
    assert_int_equal(model.silent_count, 1);
    survey(&model, 3, silence("a"), silence("b"), NULL);
    const struct top_domain *a = top_model_find(&model, "a");
    assert_true(a->is_silent && a->is_known && a->silent_s == 2);
    assert_true(a->last.populated == 100 && isnan(a->faults_per_s));
    assert_string_equal(a->error, "it did not answer; try again");
    assert_null(top_model_find(&model, "c"));
    assert_string_equal(shown(&model), "a b ");
    survey(&model, 5, answer("a", 1, 100, 40, 0), NULL, NULL);
    a = top_model_find(&model, "a");
    assert_true(!a->is_silent && a->silent_s == 0 && a->faults_per_s == 10); /* over four seconds */
    assert_int_equal(model.count, 1);
    /* One that has not answered yet, and one of which there is nothing new. */
    const struct top_news news[] = {{"a", NULL, 0}, {"d", NULL, 6}};
    assert_int_equal(top_model_update(&model, news, 2), 0);
    a = top_model_find(&model, "a");
    assert_true(a->faults_per_s == 10 && a->history_count == 2);
    assert_string_equal(top_state(top_model_find(&model, "d")), "asking");
    assert_string_equal(shown(&model), "a d ");
    survey(&model, 7, NULL, NULL, NULL);
    assert_int_equal(model.count, 0);
    assert_int_equal(model.shown_count, 0);
    top_model_free(&model);
}

static void order_and_filter(void **unused)
{
    (void)unused;
    struct top_model model = {.count = 0};
    survey(&model, 1, answer("web2", 1, 300, 5, 0), answer("db", 2, 100, 9, 0),
           answer("web1", 3, 300, 0, 0));
    assert_string_equal(shown(&model), "db web1 web2 ");
    model.reverse = true;
    top_model_arrange(&model);
    assert_string_equal(shown(&model), "web2 web1 db ");
    model.reverse = false;
    model.key = TOP_BY_POPULATED;
    top_model_arrange(&model);
    assert_string_equal(shown(&model), "web1 web2 db "); /* equals by name */
    model.key = TOP_BY_CACHE;
    top_model_arrange(&model);
    assert_string_equal(shown(&model), "db web1 web2 ");
    model.key = TOP_BY_P99;
    top_model_arrange(&model);
    assert_string_equal(shown(&model), "db web2 web1 ");
    /* Who has no rate comes last. */
    model.key = TOP_BY_FAULTS;
    survey(&model, 2, answer("web2", 1, 300, 15, 0), answer("db", 7, 100, 99, 0),
           answer("web1", 3, 300, 40, 0));
    assert_string_equal(shown(&model), "web1 web2 db ");
    snprintf(model.filter, sizeof(model.filter), "WEB");
    top_model_arrange(&model);
    assert_string_equal(shown(&model), "web1 web2 ");
    survey(&model, 3, silence("web2"), answer("db", 7, 100, 99, 0), answer("web1", 3, 300, 40, 0));
    snprintf(model.filter, sizeof(model.filter), "sil");
    top_model_arrange(&model);
    assert_string_equal(shown(&model), "web2 ");
    snprintf(model.filter, sizeof(model.filter), "nobody");
    top_model_arrange(&model);
    assert_int_equal(model.shown_count, 0);
    top_model_free(&model);
}

static void keys_have_names(void **unused)
{
    (void)unused;
    for (int i = 0; i < TOP_KEYS; i++) {
        enum top_key key;
        assert_true(top_key_find(top_key_name((enum top_key)i), &key));
        assert_int_equal(key, i);
    }
    enum top_key key = TOP_BY_MAX;
    assert_false(top_key_find("size", &key));
    assert_int_equal(key, TOP_BY_MAX);
}

static void history_is_a_ring(void **unused)
{
    (void)unused;
    struct top_model model = {.count = 0};
    for (int i = 0; i < TOP_HISTORY + 3; i++) {
        survey(&model, i, answer("a", 1, i % 500, i, 0), NULL, NULL);
    }
    const struct top_domain *a = top_model_find(&model, "a");
    assert_true(top_moment_back(a, 0)->populated == (TOP_HISTORY + 2) % 500);
    assert_true(top_moment_back(a, 1)->populated == (TOP_HISTORY + 1) % 500);
    assert_true(top_moment_back(a, TOP_HISTORY - 1)->populated == 3);
    assert_null(top_moment_back(a, TOP_HISTORY));
    top_model_free(&model);
}

static void many_domains(void **unused)
{
    (void)unused;
    struct top_model model = {.count = 0};
    json_t *list = json_array();
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "vm%02d", 99 - i);
        json_array_append_new(list, answer(name, i, i, i, i));
    }
    assert_int_equal(top_model_take_survey(&model, list, 1), 0);
    json_decref(list);
    assert_int_equal(model.shown_count, 100);
    assert_string_equal(model.domains[model.shown[0]].name, "vm00");
    assert_string_equal(model.domains[model.shown[99]].name, "vm99");
    top_model_free(&model);
}

static void short_numbers(void **unused)
{
    (void)unused;
    static const struct {
        void (*format)(double value, char text[TOP_FORMAT_BYTES]);
        double value;
        const char *text;
    } table[] = {
        {top_format_pages, 0, "0"},
        {top_format_pages, 1, "4K"},
        {top_format_pages, 256, "1M"},
        {top_format_pages, 384, "1.50M"},
        {top_format_pages, 3200, "12.5M"},
        {top_format_pages, 262143, "1024M"},
        {top_format_pages, 262144, "1G"},
        {top_format_pages, 4294967296, "16T"},
        {top_format_rate, 0, "0"},
        {top_format_rate, 0.25, "0.2"},
        {top_format_rate, 9.96, "10"},
        {top_format_rate, 999, "999"},
        {top_format_rate, 999.9, "1.00k"},
        {top_format_rate, 12345, "12.3k"},
        {top_format_rate, 2e6, "2M"},
        {top_format_rate, NAN, "-"},
        {top_format_ns, 0, "-"},
        {top_format_ns, 950, "950ns"},
        {top_format_ns, 12500, "12.5us"},
        {top_format_ns, 130000, "130us"},
        {top_format_ns, 2500000, "2.50ms"},
        {top_format_ns, 3e9, "3s"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char text[TOP_FORMAT_BYTES];
        table[i].format(table[i].value, text);
        assert_string_equal(text, table[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates),
        cmocka_unit_test(silence_and_end),
        cmocka_unit_test(order_and_filter),
        cmocka_unit_test(keys_have_names),
        cmocka_unit_test(history_is_a_ring),
        cmocka_unit_test(many_domains),
        cmocka_unit_test(short_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
