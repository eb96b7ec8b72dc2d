/* A request's head, taken apart. What must not live here: what is answered. */
#include "origin.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool span_is(struct span s, const char *words)
{
    return strlen(words) == s.size && strncasecmp(s.data, words, s.size) == 0;
}

uint64_t span_number(struct span s)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.size && s.data[i] >= '0' && s.data[i] <= '9'; i++)
        v = v * 10 + (uint64_t)(s.data[i] - '0');
    return v;
}

struct span query_value(struct span query, const char *name)
{
    size_t length = strlen(name);
    const char *p = query.data, *end = query.data + query.size;
    while (p < end) {
        const char *stop = memchr(p, '&', (size_t)(end - p));
        stop = stop ? stop : end;
        size_t size = (size_t)(stop - p);
        if (size >= length && memcmp(p, name, length) == 0) {
            if (size == length)
                return (struct span){stop, 0};
            if (p[length] == '=')
                return (struct span){p + length + 1, size - length - 1};
        }
        p = stop + 1;
    }
    return (struct span){NULL, 0};
}

static bool holds(struct span s, const char *words)
{
    size_t n = strlen(words);
    for (size_t i = 0; i + n <= s.size; i++)
        if (strncasecmp(s.data + i, words, n) == 0)
            return true;
    return false;
}

static void range(struct span v, struct request *r)
{
    if (v.size < 7 || strncasecmp(v.data, "bytes=", 6) != 0)
        return;
    struct span rest = {v.data + 6, v.size - 6};
    const char *dash = memchr(rest.data, '-', rest.size);
    if (!dash)
        return;
    size_t at = (size_t)(dash - rest.data);
    struct span last = {dash + 1, rest.size - at - 1};
    r->has_range = true;
    r->has_suffix = at == 0;
    r->first = span_number(rest);
    r->last = last.size ? span_number(last) : UINT64_MAX;
}

static void checksum(struct span name, struct span value, struct request *r)
{
    static const char start[] = "x-amz-checksum-";
    size_t n = sizeof start - 1;
    if (span_is(name, "x-amz-checksum-mode"))
        r->checksum_mode = span_is(value, "enabled");
    enum crc_kind kind = crc_named(name.data + n, name.size - n);
    if (kind)
        r->kind = kind, r->declared = value;
}

static void field(struct span name, struct span value, struct request *r)
{
    char low[64];
    if (name.size >= sizeof low)
        return;
    for (size_t i = 0; i < name.size; i++)
        low[i] = (char)(name.data[i] >= 'A' && name.data[i] <= 'Z' ? name.data[i] | 32
                                                                  : name.data[i]);
    struct span n = {low, name.size};
    if (n.size > 15 && memcmp(low, "x-amz-checksum-", 15) == 0)
        checksum(n, value, r);
    else if (span_is(n, "content-length"))
        r->length = span_number(value), r->has_length = true;
    else if (span_is(n, "range"))
        range(value, r);
    else if (span_is(n, "expect"))
        r->expect = span_is(value, "100-continue");
    else if (span_is(n, "transfer-encoding"))
        r->chunked = holds(value, "chunked");
    else if (span_is(n, "content-encoding"))
        r->aws_chunked = r->aws_chunked || holds(value, "aws-chunked");
    else if (span_is(n, "x-amz-content-sha256"))
        r->aws_chunked = r->aws_chunked || holds(value, "STREAMING-");
    else if (span_is(n, "x-amz-decoded-content-length"))
        r->decoded_length = span_number(value);
    else if (span_is(n, "x-amz-mp-object-size"))
        r->object_size = span_number(value), r->has_object_size = true;
    else if (span_is(n, "x-amz-trailer") && value.size > 15)
        r->trailer = crc_named(value.data + 15, value.size - 15);
    else if (span_is(n, "if-match"))
        r->if_match = value;
    else if (span_is(n, "connection"))
        r->close = holds(value, "close");
}

static bool request_line(const char *p, size_t size, struct request *r)
{
    static const char *const names[] = {"GET", "HEAD", "PUT", "POST", "DELETE"};
    const char *first = memchr(p, ' ', size);
    if (!first)
        return false;
    struct span name = {p, (size_t)(first - p)};
    r->method = OTHER;
    for (int i = 0; i < OTHER; i++)
        if (span_is(name, names[i]))
            r->method = (enum method)i;
    const char *target = first + 1;
    const char *end = memchr(target, ' ', size - name.size - 1);
    if (!end || *target != '/')
        return false;
    const char *mark = memchr(target, '?', (size_t)(end - target));
    const char *stop = mark ? mark : end;
    r->path = (struct span){target, (size_t)(stop - target)};
    r->query = mark ? (struct span){mark + 1, (size_t)(end - mark - 1)} : (struct span){end, 0};
    const char *slash = memchr(target + 1, '/', r->path.size - 1);
    const char *bucket_end = slash ? slash : stop;
    r->bucket = (struct span){target + 1, (size_t)(bucket_end - target - 1)};
    r->key = slash ? (struct span){slash + 1, (size_t)(stop - slash - 1)} : (struct span){stop, 0};
    return true;
}

bool head_parse(const char *head, size_t size, struct request *r)
{
    memset(r, 0, sizeof *r);
    const char *end = head + size;
    const char *p = memchr(head, '\r', size);
    if (!p || !request_line(head, (size_t)(p - head), r))
        return false;
    for (p += 2; p < end;) {
        const char *stop = memchr(p, '\r', (size_t)(end - p));
        if (!stop)
            return false;
        const char *colon = memchr(p, ':', (size_t)(stop - p));
        if (!colon)
            return stop == p && stop + 2 >= end;
        const char *value = colon + 1;
        while (value < stop && (*value == ' ' || *value == '\t'))
            value++;
        const char *last = stop;
        while (last > value && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        field((struct span){p, (size_t)(colon - p)},
              (struct span){value, (size_t)(last - value)}, r);
        p = stop + 2;
    }
    return true;
}
