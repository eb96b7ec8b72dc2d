/* What the files of the origin share: a connection, its request, settings and counts.
 *
 *   main.c    options, listeners, threads          loop.c    epoll, timers, accepting
 *   conn.c    one connection: read, answer, write  tls.c     the same through OpenSSL
 *   head.c    a request's head                     body.c    a request's body and its checksum
 *   answers.c S3's verbs and STS                   listing.c ListObjectsV2
 *   content.c the bytes that can be fetched        stats.c   counts and switches
 *   uploads.c multipart uploads under way          crc.c     checksums
 *
 * Signatures are not verified; nothing is stored. Linux only. */
#ifndef ORIGIN_H
#define ORIGIN_H
#include "crc.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRATCH_SIZE (256 * 1024)
#define MAX_HEAD (64 * 1024)
#define MAX_STORED (4 * 1024 * 1024) /* a CompleteMultipartUpload of 10,000 parts is 1 MiB */
#define NANO 1000000000ull

struct text {
    char *data;
    size_t size, room;
};
void text_add(struct text *t, const char *data, size_t size);
void text_say(struct text *t, const char *words);
void text_number(struct text *t, uint64_t value);
void text_format(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct span {
    const char *data;
    size_t size;
};
bool span_is(struct span s, const char *words);
uint64_t span_number(struct span s);
/* The value of a name in `a=1&b=2`; data is NULL where it is not there. */
struct span query_value(struct span query, const char *name);

enum method { GET, HEAD, PUT, POST, DELETE, OTHER };

struct request {
    enum method method;
    struct span path, query;   /* of the target, undecoded */
    struct span bucket, key;
    struct span if_match, declared; /* declared: the checksum's header value */
    uint64_t length, decoded_length, object_size;
    uint64_t first, last;
    bool has_range, has_suffix, has_length, has_object_size;
    bool chunked, aws_chunked, expect, close, checksum_mode;
    enum crc_kind kind, trailer; /* of a header with its value, of a trailer that is announced */
};
/* False for what no HTTP client sends. The spans point into `head`. */
bool head_parse(const char *head, size_t size, struct request *r);

struct chunks {
    enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER, CHUNKS_DONE } state;
    uint64_t left;
    char line[512];
    size_t line_size;
};
struct body {
    bool done, bad;
    bool raw; /* neither looked at nor kept: may be dropped inside the kernel */
    bool http_chunks, aws_chunks; /* both: botocore over https sends the one inside the other */
    struct chunks http, aws;
    uint64_t left, size; /* left: of Content-Length, as it is sent */
    enum crc_kind kind;
    uint64_t crc;
    char trailer[32];
    struct text *keep; /* where the body is put, for POST */
};
void body_start(struct body *b, const struct request *r, bool check, struct text *keep);
/* How many of the bytes belonged to the body; all of them unless it ends before. */
size_t body_take(struct body *b, const char *data, size_t size);

struct bucket {
    double tokens;
    uint64_t at;
};

struct tls;
struct thread;

struct conn {
    int fd, timer; /* timer: its place in the heap, -1 without */
    struct thread *thread;
    struct tls *tls;
    enum { READ_HEAD, READ_BODY, WAIT, WRITE } state;
    bool dead, last, control, reading, writing; /* reading, writing: what epoll watches */
    struct text in, out, keep;
    size_t out_done;
    struct request request;
    struct body body;
    uint64_t content, content_left; /* place in the pattern, bytes still to be sent */
    uint64_t answer_at, read_at, write_at, due; /* due: the timer's own copy */
    uint64_t idle_since; /* when it was set up, or its last answer was out */
    struct bucket down, up;
    struct conn *next_dead;
};
void conn_ready(struct conn *c, bool readable, bool writable);
void conn_timer(struct conn *c, uint64_t now);
void conn_close(struct conn *c);
void conn_feed(struct conn *c, const char *data, size_t size);
/* Bytes that may move now; 0 sets `at` to when some may. */
size_t conn_allowance(struct bucket *b, uint64_t now, uint64_t wanted, uint64_t *at);

struct thread {
    int epoll, index;
    char *scratch, *cipher;
    size_t cipher_at, cipher_size;
    struct conn **heap, *dead;
    int heap_size, heap_room;
};
uint64_t now_ns(void);
void loop_watch(struct conn *c, bool reading, bool writing);
void loop_arm(struct conn *c);
void loop_disarm(struct conn *c);
void *loop_run(void *thread);
void loop_listen(int fd, bool tls);
extern struct thread *threads;
extern int thread_count;

/* tls.c; without OpenSSL's headers tls_setup says so and returns false. */
bool tls_setup(const char *certificate, const char *key);
struct tls *tls_new(struct conn *c);
void tls_free(struct tls *t);
void tls_read(struct conn *c, uint64_t now);
/* Bytes taken; the cipher text may still wait, which tls_flush tells. */
size_t tls_write(struct conn *c, const char *data, size_t size);
bool tls_flush(struct conn *c);

void answer(struct conn *c);
void answer_list(struct conn *c);
void answer_head(struct text *t, int status, const char *reason, uint64_t length, const char *type);
void answer_xml(struct conn *c, int status, const char *reason, const struct text *xml);
void answer_error(struct conn *c, int status, const char *code);

void content_setup(void);
extern int content_fd;
extern const char *content_data;
#define CONTENT_SIZE (61ull << 20) /* no multiple of any part size: a part put wrong is seen */
/* Size and place of an object that exists: s/SIZE/COUNT/NAME; false for any other key. */
bool content_find(struct span key, uint64_t *size, uint64_t *start);
uint64_t content_crc(uint64_t size, uint64_t start);
void content_name(uint64_t number, char name[32]);
uint64_t content_hash(struct span key);

uint64_t upload_create(void);
bool upload_part(uint64_t id, uint64_t number, const struct body *b);
/* Sums up and forgets. `kind` is that of all parts with a sum, or CRC_NONE. */
bool upload_complete(uint64_t id, uint64_t *parts, uint64_t *size, enum crc_kind *kind,
                     uint64_t *crc);
bool upload_abort(uint64_t id);
uint64_t upload_open(void);

enum count {
    N_PUT, N_PART, N_GET, N_HEAD, N_LIST, N_CREATE, N_COMPLETE, N_ABORT, N_DELETE, N_STS, N_OTHER,
    N_CONTINUE, N_CONNECTIONS, N_HANDSHAKES, BYTES_IN, BYTES_OUT, SUM_GOOD, SUM_BAD, SUM_NONE,
    SUM_SKIPPED, BYTES_SUMMED, WHOLE_GOOD, WHOLE_BAD, N_PROBLEMS, IN_USE_US, COUNTS
};
void count_add(enum count which, uint64_t more);
/* What no correct client does; a run with one is void. */
void problem(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern uint64_t rtt_ns, bandwidth;
extern bool check_sums;
void answer_stats(struct conn *c);
#endif
