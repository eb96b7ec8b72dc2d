/* A request's body: its framing (plain, HTTP's chunks, aws-chunked with a trailer, or the last
 * inside the second, as botocore sends it) and its checksum. What must not live here: sockets,
 * answers. */
#include "origin.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void body_start(struct body *b, const struct request *r, bool check, struct text *keep)
{
    memset(b, 0, sizeof *b);
    b->keep = keep;
    b->kind = check ? (r->kind ? r->kind : r->trailer) : CRC_NONE;
    b->http_chunks = r->chunked;
    b->aws_chunks = r->aws_chunked;
    b->left = r->chunked ? 0 : r->length;
    b->done = !r->chunked && !r->length;
    b->raw = !b->http_chunks && !b->aws_chunks && !b->kind && !keep;
}

static void data(struct body *b, const char *p, size_t n)
{
    if (b->kind)
        b->crc = crc_update(b->kind, b->crc, p, n);
    if (b->keep && b->keep->size + n <= MAX_STORED)
        text_add(b->keep, p, n);
    b->size += n;
}

static void trailer(struct body *b, const char *line)
{
    static const char start[] = "x-amz-checksum-";
    const char *colon = strchr(line, ':');
    if (!colon || strncasecmp(line, start, sizeof start - 1) != 0)
        return;
    const char *value = colon + 1;
    while (*value == ' ')
        value++;
    size_t n = strnlen(value, sizeof b->trailer - 1);
    memcpy(b->trailer, value, n);
    b->trailer[n] = 0;
}

/* A whole line stands in `line`, without its end. */
static void end_line(struct body *b, struct chunks *k)
{
    if (k->state == CHUNK_DATA_END) {
        b->bad = b->bad || k->line_size;
        k->state = CHUNK_SIZE;
    } else if (k->state == CHUNK_SIZE) {
        char *end;
        k->left = strtoull(k->line, &end, 16);
        b->bad = b->bad || end == k->line;
        k->state = k->left ? CHUNK_DATA : CHUNK_TRAILER;
    } else if (!k->line_size) {
        k->state = CHUNKS_DONE;
    } else {
        trailer(b, k->line);
    }
    k->line_size = 0;
}

static void take_byte(struct body *b, struct chunks *k, char byte)
{
    if (byte == '\n') {
        if (k->line_size && k->line[k->line_size - 1] == '\r')
            k->line_size--;
        k->line[k->line_size] = 0;
        end_line(b, k);
    } else if (k->line_size < sizeof k->line - 1) {
        k->line[k->line_size++] = byte;
    } else {
        b->bad = true;
    }
}

typedef void payload(struct body *b, const char *p, size_t n);

/* How many bytes belonged to the chunks; what they carry goes on to `next`. */
static size_t unpack(struct body *b, struct chunks *k, const char *p, size_t size, payload *next)
{
    size_t done = 0;
    while (done < size && k->state != CHUNKS_DONE && !b->bad) {
        if (k->state != CHUNK_DATA) {
            take_byte(b, k, p[done++]);
            continue;
        }
        size_t n = size - done < k->left ? size - done : (size_t)k->left;
        next(b, p + done, n);
        done += n;
        k->left -= n;
        if (!k->left)
            k->state = CHUNK_DATA_END;
    }
    return done;
}

/* After the end of aws-chunked nothing may come but line ends. */
static void inner(struct body *b, const char *p, size_t n)
{
    if (!b->aws_chunks) {
        data(b, p, n);
        return;
    }
    for (size_t i = unpack(b, &b->aws, p, n, data); i < n && !b->bad; i++)
        b->bad = p[i] != '\r' && p[i] != '\n';
}

size_t body_take(struct body *b, const char *p, size_t size)
{
    size_t used;
    if (b->http_chunks) {
        used = unpack(b, &b->http, p, size, inner);
        b->done = b->http.state == CHUNKS_DONE;
    } else {
        used = size < b->left ? size : (size_t)b->left;
        inner(b, p, used);
        b->left -= used;
        b->done = !b->left;
    }
    if (b->done && b->aws_chunks && b->aws.state != CHUNKS_DONE)
        b->bad = true;
    return used;
}
