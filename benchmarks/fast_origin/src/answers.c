/* What is answered: S3's verbs as far as transfer clients use them, and STS. Nobody is refused for
 * a signature: none is looked at. What must not live here: sockets, delays. */
#define _GNU_SOURCE
#include "origin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define XMLNS "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""
#define MODIFIED "Fri, 02 Jan 2026 03:04:05 GMT"

void answer_head(struct text *t, int status, const char *reason, uint64_t length, const char *type)
{
    static __thread time_t when;
    static __thread char date[40];
    time_t now = time(NULL);
    if (now != when) {
        struct tm utc;
        when = now;
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &utc));
    }
    text_format(t, "HTTP/1.1 %d %s\r\nx-amz-id-2: b3JpZ2luIG9mIHRoZSBiZW5jaG1hcms=\r\n"
                   "x-amz-request-id: BENCHMARKORIGIN0\r\nDate: %s\r\nServer: origin\r\n",
                status, reason, date);
    if (type)
        text_format(t, "Content-Type: %s\r\n", type);
    if (status != 204)
        text_say(t, "Content-Length: "), text_number(t, length), text_say(t, "\r\n");
}

void answer_xml(struct conn *c, int status, const char *reason, const struct text *xml)
{
    static const char start[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    bool bare = c->request.method == HEAD;
    size_t size = sizeof start - 1 + xml->size;
    answer_head(&c->out, status, reason, bare ? 0 : size, "application/xml");
    text_say(&c->out, "\r\n");
    if (!bare)
        text_say(&c->out, start), text_add(&c->out, xml->data, xml->size);
}

void answer_error(struct conn *c, int status, const char *code)
{
    struct text xml = {0};
    text_format(&xml, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code);
    answer_xml(c, status, code, &xml);
    free(xml.data);
}

static uint64_t number_of(const struct request *r, const char *name)
{
    struct span s = query_value(r->query, name);
    return s.data ? span_number(s) : 0;
}

static bool asks(const struct request *r, const char *name)
{
    return query_value(r->query, name).data;
}

/* False where the checksum that came with the body is not that of the body. */
static bool sum_fits(struct conn *c, char *text)
{
    struct request *r = &c->request;
    struct body *b = &c->body;
    *text = 0;
    if (!r->kind && !r->trailer) {
        count_add(SUM_NONE, 1);
        return true;
    }
    if (!b->kind) { /* switched off: what was declared is told back */
        size_t n = r->declared.size < 31 ? r->declared.size : 31;
        memcpy(text, r->kind ? r->declared.data : b->trailer, r->kind ? n : sizeof b->trailer);
        text[r->kind ? n : 31] = 0;
        count_add(SUM_SKIPPED, 1);
        return true;
    }
    crc_text(b->kind, b->crc, text);
    struct span sent = {b->trailer, strlen(b->trailer)};
    bool fits = span_is(r->kind ? r->declared : sent, text);
    count_add(fits ? SUM_GOOD : SUM_BAD, 1);
    count_add(BYTES_SUMMED, b->size);
    return fits;
}

static void put(struct conn *c)
{
    struct request *r = &c->request;
    bool part = asks(r, "partNumber");
    char sum[32];
    count_add(part ? N_PART : N_PUT, 1);
    count_add(BYTES_IN, c->body.size);
    if (c->body.bad || (r->aws_chunked && r->decoded_length != c->body.size)) {
        problem("a body of %llu bytes, announced as %llu", (unsigned long long)c->body.size,
                (unsigned long long)r->decoded_length);
        answer_error(c, 400, "IncompleteBody");
        return;
    }
    if (!sum_fits(c, sum)) {
        answer_error(c, 400, "BadDigest");
        return;
    }
    if (part && !upload_part(number_of(r, "uploadId"), number_of(r, "partNumber"), &c->body)) {
        problem("a part of no upload");
        answer_error(c, 404, "NoSuchUpload");
        return;
    }
    answer_head(&c->out, 200, "OK", 0, NULL);
    text_format(&c->out, "ETag: \"%016llx%016llx\"\r\n", (unsigned long long)content_hash(r->key),
                (unsigned long long)(part ? number_of(r, "partNumber") : 0));
    if (*sum)
        text_format(&c->out, "x-amz-checksum-%s: %s\r\n", crc_names[r->kind ? r->kind : r->trailer],
                    sum);
    text_say(&c->out, part || !*sum ? "\r\n" : "x-amz-checksum-type: FULL_OBJECT\r\n\r\n");
}

static bool other_etag(const struct request *r, const char *etag)
{
    struct span s = r->if_match;
    return s.data && !(s.size == 1 && *s.data == '*') && !span_is(s, etag);
}

/* The span that is asked for; false where there is none. */
static bool span_of(struct request *r, uint64_t size, uint64_t *first, uint64_t *length)
{
    *first = 0;
    *length = size;
    if (!r->has_range)
        return true;
    if (r->has_suffix) {
        *length = r->last < size ? r->last : size;
        *first = size - *length;
        return *length > 0;
    }
    uint64_t last = r->last < size ? r->last : size - 1;
    if (r->first >= size || last < r->first)
        return false;
    *first = r->first;
    *length = last - r->first + 1;
    return true;
}

static void get(struct conn *c)
{
    struct request *r = &c->request;
    uint64_t size, start, first, length;
    char etag[40];
    count_add(r->method == HEAD ? N_HEAD : N_GET, 1);
    if (!content_find(r->key, &size, &start)) {
        answer_error(c, 404, "NoSuchKey");
        return;
    }
    snprintf(etag, sizeof etag, "\"%016llx%016llx\"", (unsigned long long)content_hash(r->key),
             (unsigned long long)size);
    if (other_etag(r, etag)) {
        answer_error(c, 412, "PreconditionFailed");
        return;
    }
    if (!span_of(r, size, &first, &length)) {
        answer_error(c, 416, "InvalidRange");
        return;
    }
    bool partial = r->has_range || asks(r, "partNumber");
    answer_head(&c->out, partial ? 206 : 200, partial ? "Partial Content" : "OK", length,
                "binary/octet-stream");
    text_format(&c->out, "ETag: %s\r\nLast-Modified: " MODIFIED "\r\nAccept-Ranges: bytes\r\n",
                etag);
    if (partial)
        text_format(&c->out, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)first,
                    (unsigned long long)(first + length - 1), (unsigned long long)size);
    if (r->checksum_mode && !r->has_range) { /* as S3: a range does not get the object's sum */
        char sum[32];
        crc_text(CRC64NVME, content_crc(size, start), sum);
        text_format(&c->out, "x-amz-checksum-crc64nvme: %s\r\n"
                             "x-amz-checksum-type: FULL_OBJECT\r\n", sum);
    }
    text_say(&c->out, "\r\n");
    if (r->method == GET) {
        c->content = (start + first) % CONTENT_SIZE;
        c->content_left = length;
        count_add(BYTES_OUT, length);
    }
}

static uint64_t parts_named(const struct text *body)
{
    static const char word[] = "<PartNumber>";
    uint64_t n = 0;
    const char *p = body->data, *end = body->data + body->size;
    while (p && (p = memmem(p, (size_t)(end - p), word, sizeof word - 1)))
        n++, p += sizeof word - 1;
    return n;
}

static void complete(struct conn *c)
{
    struct request *r = &c->request;
    uint64_t parts, size, crc;
    enum crc_kind kind;
    struct text xml = {0};
    char sum[32] = "";
    count_add(N_COMPLETE, 1);
    if (!upload_complete(number_of(r, "uploadId"), &parts, &size, &kind, &crc)) {
        problem("complete of no upload");
        answer_error(c, 404, "NoSuchUpload");
        return;
    }
    if (parts_named(&c->keep) != parts || (r->has_object_size && r->object_size != size)) {
        problem("%llu parts of %llu bytes, completed as something else",
                (unsigned long long)parts, (unsigned long long)size);
        answer_error(c, 400, "InvalidPart");
        return;
    }
    if (kind == CRC64NVME)
        crc_text(kind, crc, sum);
    if (*sum && r->kind == CRC64NVME) {
        bool fits = span_is(r->declared, sum);
        count_add(fits ? WHOLE_GOOD : WHOLE_BAD, 1);
        if (!fits) {
            answer_error(c, 400, "BadDigest");
            return;
        }
    }
    text_format(&xml, "<CompleteMultipartUploadResult " XMLNS "><Location>l</Location>"
                      "<Bucket>%.*s</Bucket><Key>%.*s</Key><ETag>&quot;%016llx-%llu&quot;</ETag>",
                (int)r->bucket.size, r->bucket.data, (int)r->key.size, r->key.data,
                (unsigned long long)content_hash(r->key), (unsigned long long)parts);
    if (*sum)
        text_format(&xml, "<ChecksumCRC64NVME>%s</ChecksumCRC64NVME>"
                          "<ChecksumType>FULL_OBJECT</ChecksumType>", sum);
    text_say(&xml, "</CompleteMultipartUploadResult>");
    answer_xml(c, 200, "OK", &xml);
    free(xml.data);
}

static void create(struct conn *c)
{
    struct text xml = {0};
    count_add(N_CREATE, 1);
    text_format(&xml, "<InitiateMultipartUploadResult " XMLNS "><Bucket>%.*s</Bucket>"
                      "<Key>%.*s</Key><UploadId>%llu</UploadId></InitiateMultipartUploadResult>",
                (int)c->request.bucket.size, c->request.bucket.data, (int)c->request.key.size,
                c->request.key.data, (unsigned long long)upload_create());
    answer_xml(c, 200, "OK", &xml);
    free(xml.data);
}

static void sts(struct conn *c)
{
    struct span form = {c->keep.data ? c->keep.data : "", c->keep.size};
    struct span action = query_value(form, "Action");
    struct span asked = query_value(form, "DurationSeconds");
    struct text xml = {0};
    char end[32];
    struct tm utc;
    time_t over = time(NULL) + (time_t)(asked.data ? span_number(asked) : 3600);
    count_add(N_STS, 1);
    if (!action.data || !span_is(action, "AssumeRole")) {
        problem("STS was asked for something else than AssumeRole");
        answer_error(c, 400, "InvalidAction");
        return;
    }
    strftime(end, sizeof end, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&over, &utc));
    text_format(&xml,
                "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
                "<AssumeRoleResult><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/"
                "bench/run</Arn><AssumedRoleId>AROABENCHMARK:run</AssumedRoleId></AssumedRoleUser>"
                "<Credentials><AccessKeyId>ASIABENCHMARKONLY</AccessKeyId><SecretAccessKey>"
                "not-a-secret-of-anybody</SecretAccessKey><SessionToken>%0400d</SessionToken>"
                "<Expiration>%s</Expiration></Credentials></AssumeRoleResult><ResponseMetadata>"
                "<RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ResponseMetadata>"
                "</AssumeRoleResponse>", 0, end);
    answer_xml(c, 200, "OK", &xml);
    free(xml.data);
}

static void post(struct conn *c)
{
    struct request *r = &c->request;
    struct text xml = {0};
    if (!r->bucket.size)
        sts(c);
    else if (asks(r, "uploads"))
        create(c);
    else if (asks(r, "uploadId"))
        complete(c);
    else if (asks(r, "delete")) {
        count_add(N_DELETE, 1);
        text_say(&xml, "<DeleteResult " XMLNS "></DeleteResult>");
        answer_xml(c, 200, "OK", &xml);
        free(xml.data);
    } else {
        problem("POST %.*s", (int)r->path.size, r->path.data);
        answer_error(c, 501, "NotImplemented");
    }
}

static void of_bucket(struct conn *c)
{
    struct text xml = {0};
    count_add(N_OTHER, 1);
    if (c->request.method == HEAD) {
        answer_head(&c->out, 200, "OK", 0, "application/xml");
        text_say(&c->out, "x-amz-bucket-region: us-east-1\r\n\r\n");
        return;
    }
    text_say(&xml, "<LocationConstraint " XMLNS "></LocationConstraint>");
    answer_xml(c, 200, "OK", &xml);
    free(xml.data);
}

void answer(struct conn *c)
{
    struct request *r = &c->request;
    bool reads = r->method == GET || r->method == HEAD;
    if (r->path.size > 1 && r->path.data[1] == '_')
        answer_stats(c);
    else if (r->method == POST)
        post(c);
    else if (r->method == PUT && r->key.size)
        put(c);
    else if (r->method == DELETE) {
        bool upload = asks(r, "uploadId");
        count_add(upload ? N_ABORT : N_DELETE, 1);
        if (upload)
            upload_abort(number_of(r, "uploadId"));
        answer_head(&c->out, 204, "No Content", 0, NULL);
        text_say(&c->out, "\r\n");
    } else if (reads && r->key.size)
        get(c);
    else if (r->method == GET && asks(r, "list-type"))
        answer_list(c);
    else if (reads && r->bucket.size)
        of_bucket(c);
    else {
        problem("%.*s?%.*s", (int)r->path.size, r->path.data, (int)r->query.size, r->query.data);
        answer_error(c, 501, "NotImplemented");
    }
}
