/* Counts and switches: GET /_stats tells the counts, GET /_set?rtt_ms=30&bandwidth=85000000&check=0
 * sets what is named. What must not live here: S3. */
#include "origin.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

uint64_t rtt_ns, bandwidth;
bool check_sums = true;

static uint64_t counts[COUNTS];
static const char *const names[COUNTS] = {
    "put_object", "upload_part", "get", "head", "list", "create", "complete", "abort", "delete",
    "sts", "other", "continue", "connections", "handshakes", "bytes_in", "bytes_out", "sum_good",
    "sum_bad", "sum_none", "sum_skipped", "bytes_summed", "whole_good", "whole_bad", "problems",
    "in_use_us"};
static char last_problem[200];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void count_add(enum count which, uint64_t more)
{
    __atomic_fetch_add(&counts[which], more, __ATOMIC_RELAXED);
}

void problem(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    pthread_mutex_lock(&lock);
    vsnprintf(last_problem, sizeof last_problem, format, values);
    for (char *p = last_problem; *p; p++)
        if (*p < ' ' || *p == '"' || *p == '\\' || *p == 127)
            *p = '?';
    pthread_mutex_unlock(&lock);
    va_end(values);
    count_add(N_PROBLEMS, 1);
}

void text_add(struct text *t, const char *data, size_t size)
{
    if (t->size + size > t->room) {
        size_t room = t->room ? t->room : 1024;
        while (room < t->size + size)
            room *= 2;
        t->data = realloc(t->data, room);
        t->room = room;
        if (!t->data)
            abort();
    }
    if (size)
        memcpy(t->data + t->size, data, size);
    t->size += size;
}

void text_say(struct text *t, const char *words)
{
    text_add(t, words, strlen(words));
}

void text_number(struct text *t, uint64_t value)
{
    char digits[24], *p = digits + sizeof digits;
    do
        *--p = (char)('0' + value % 10);
    while (value /= 10);
    text_add(t, p, (size_t)(digits + sizeof digits - p));
}

void text_format(struct text *t, const char *format, ...)
{
    char line[2048];
    va_list values;
    va_start(values, format);
    int n = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    text_add(t, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}

static void set(struct span query)
{
    struct span rtt = query_value(query, "rtt_ms"), rate = query_value(query, "bandwidth");
    struct span check = query_value(query, "check");
    if (rtt.data)
        __atomic_store_n(&rtt_ns, span_number(rtt) * 1000000, __ATOMIC_RELAXED);
    if (rate.data)
        __atomic_store_n(&bandwidth, span_number(rate), __ATOMIC_RELAXED);
    if (check.data)
        check_sums = span_number(check);
}

void answer_stats(struct conn *c)
{
    struct text json = {0};
    struct rusage used;
    if (span_is(c->request.path, "/_set"))
        set(c->request.query);
    getrusage(RUSAGE_SELF, &used);
    text_say(&json, "{");
    for (int i = 0; i < COUNTS; i++)
        text_format(&json, "\"%s\": %llu, ", names[i],
                    (unsigned long long)__atomic_load_n(&counts[i], __ATOMIC_RELAXED));
    pthread_mutex_lock(&lock);
    text_format(&json, "\"last_problem\": \"%s\", ", last_problem);
    pthread_mutex_unlock(&lock);
    text_format(&json, "\"open_uploads\": %llu, ", (unsigned long long)upload_open());
    text_format(&json, "\"user_seconds\": %ld.%06ld, \"system_seconds\": %ld.%06ld}\n",
                (long)used.ru_utime.tv_sec, (long)used.ru_utime.tv_usec,
                (long)used.ru_stime.tv_sec, (long)used.ru_stime.tv_usec);
    answer_head(&c->out, 200, "OK", json.size, "application/json");
    text_say(&c->out, "\r\n");
    text_add(&c->out, json.data, json.size);
    free(json.data);
}
