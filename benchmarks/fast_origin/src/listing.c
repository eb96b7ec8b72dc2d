/* ListObjectsV2 over keys that exist only as numbers: s/SIZE/COUNT/00001/0001234, COUNT of them.
 * What must not live here: other verbs. */
#define _GNU_SOURCE
#include "origin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct list {
    char prefix[512];
    size_t size, base; /* base: length of s/SIZE/COUNT/ */
    uint64_t object_size, count, from, most;
    bool encoded, by_folder;
};

/* The query's value with its %XX and + undone; false where it does not fit. */
static bool decoded(struct span s, char *out, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < s.size; i++) {
        char byte = s.data[i];
        if (byte == '%' && i + 2 < s.size) {
            char hex[3] = {s.data[i + 1], s.data[i + 2], 0};
            byte = (char)strtol(hex, NULL, 16);
            i += 2;
        } else if (byte == '+') {
            byte = ' ';
        }
        if (n + 1 >= room)
            return false;
        out[n++] = byte;
    }
    out[n] = 0;
    return true;
}

static bool parse(struct span query, struct list *l)
{
    struct span prefix = query_value(query, "prefix");
    struct span token = query_value(query, "continuation-token");
    struct span most = query_value(query, "max-keys");
    struct span type = query_value(query, "encoding-type");
    char delimiter[8] = "";
    memset(l, 0, sizeof *l);
    if (!decoded(prefix, l->prefix, sizeof l->prefix))
        return false;
    decoded(query_value(query, "delimiter"), delimiter, sizeof delimiter);
    l->size = strlen(l->prefix);
    l->by_folder = strcmp(delimiter, "/") == 0;
    l->encoded = type.data && span_is(type, "url");
    l->from = token.data ? span_number(token) : 0;
    l->most = most.data && span_number(most) < 1000 ? span_number(most) : 1000;
    unsigned long long object_size, count;
    int used = 0;
    if (sscanf(l->prefix, "s/%llu/%llu/%n", &object_size, &count, &used) == 2 && used) {
        l->base = (size_t)used;
        l->object_size = object_size;
        l->count = count < 10000000 ? count : 10000000;
    }
    return true;
}

static void row(struct text *xml, const struct list *l, struct span key)
{
    text_say(xml, "<Contents><Key>");
    text_add(xml, key.data, key.size);
    text_say(xml, "</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;");
    char etag[40];
    snprintf(etag, sizeof etag, "%016llx%016llx", (unsigned long long)content_hash(key),
             (unsigned long long)l->object_size);
    text_add(xml, etag, 32);
    text_say(xml, "&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>"
                  "<ChecksumType>FULL_OBJECT</ChecksumType><Size>");
    text_number(xml, l->object_size);
    text_say(xml, "</Size><StorageClass>STANDARD</StorageClass></Contents>");
}

/* One page of rows from `from` on; returns the number after the last one that was looked at. */
static uint64_t rows(struct text *xml, struct text *folders, const struct list *l, uint64_t *shown)
{
    char key[560];
    uint64_t n = l->from, last_folder = UINT64_MAX;
    const char *rest = l->prefix + l->base;
    memcpy(key, l->prefix, l->base);
    for (; n < l->count && *shown < l->most; n++) {
        content_name(n, key + l->base);
        if (strncmp(key + l->base, rest, l->size - l->base) != 0)
            continue;
        if (l->by_folder && strchr(key + l->size, '/')) {
            if (n / 1000 != last_folder) {
                last_folder = n / 1000;
                *shown += 1;
                text_format(folders, "<CommonPrefixes><Prefix>%.*s%05u/</Prefix></CommonPrefixes>",
                            (int)l->base, key, (unsigned)last_folder);
            }
            n = last_folder * 1000 + 999; /* the rest of the folder is in it */
            continue;
        }
        row(xml, l, (struct span){key, l->base + strlen(key + l->base)});
        *shown += 1;
    }
    return n;
}

void answer_list(struct conn *c)
{
    struct list l;
    struct text xml = {0}, list = {0}, folders = {0};
    uint64_t shown = 0;
    count_add(N_LIST, 1);
    if (!parse(c->request.query, &l)) {
        answer_error(c, 400, "InvalidArgument");
        return;
    }
    uint64_t next = rows(&list, &folders, &l, &shown);
    text_format(&xml, "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                      "<Name>%.*s</Name><Prefix>%s</Prefix>%s%s<KeyCount>%llu</KeyCount>"
                      "<MaxKeys>%llu</MaxKeys><IsTruncated>%s</IsTruncated>",
                (int)c->request.bucket.size, c->request.bucket.data, l.prefix,
                l.encoded ? "<EncodingType>url</EncodingType>" : "",
                l.by_folder ? "<Delimiter>/</Delimiter>" : "", (unsigned long long)shown,
                (unsigned long long)l.most, next < l.count ? "true" : "false");
    if (next < l.count)
        text_format(&xml, "<NextContinuationToken>%llu</NextContinuationToken>",
                    (unsigned long long)next);
    text_add(&xml, list.data, list.size);
    text_add(&xml, folders.data, folders.size);
    text_say(&xml, "</ListBucketResult>");
    answer_xml(c, 200, "OK", &xml);
    free(xml.data);
    free(list.data);
    free(folders.data);
}
